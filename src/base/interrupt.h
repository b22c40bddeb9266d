// Signals that end a program, and the temporary files and folders that it must not leave behind
// then.
#pragma once

#include <filesystem>

namespace ssa {

/// Sets the signal's handler, unless whoever started the program had it ignored: so nohup does, and
/// it stays ignored. Returns whether the handler is set.
bool catch_signal(int signal, void (*handler)(int));

/// Registers a file, or a folder with the files that lie in it by then (but no folders), for
/// removal by remove_interrupted_files(). Thread-safe; at most 64 at once, more are not recorded.
void remove_on_interrupt(const std::filesystem::path& path);
/// Takes the path off the list again.
void keep_on_interrupt(const std::filesystem::path& path);
/// Removes what is registered. Safe to call from a signal handler.
void remove_interrupted_files();

}  // namespace ssa
