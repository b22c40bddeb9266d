// Temporary files and folders that an interrupted program (SIGINT, SIGTERM, SIGHUP) must not leave
// behind.
#pragma once

#include <filesystem>

namespace ssa {

/// Registers a file, or a folder with the files that lie in it by then (but no folders), for
/// removal by remove_interrupted_files(). Thread-safe; at most 64 at once, more are not recorded.
void remove_on_interrupt(const std::filesystem::path& path);
/// Takes the path off the list again.
void keep_on_interrupt(const std::filesystem::path& path);
/// Removes what is registered. Safe to call from a signal handler.
void remove_interrupted_files();

}  // namespace ssa
