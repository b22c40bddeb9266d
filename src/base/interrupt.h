// Temporary files that an interrupted program (SIGINT, SIGTERM, SIGHUP) must not leave behind.
#pragma once

#include <filesystem>

namespace ssa {

/// Registers a file for removal by remove_interrupted_files(). Thread-safe; at most 64 at once, more are not recorded.
void remove_on_interrupt(const std::filesystem::path& path);
/// Takes the file off the list again.
void keep_on_interrupt(const std::filesystem::path& path);
/// Removes the registered files. Safe to call from a signal handler.
void remove_interrupted_files();

}  // namespace ssa
