// Removing a folder with all that is in it.
#pragma once

#include <filesystem>

namespace ssa {

/// Removes the file or folder, and everything below it; links are removed, not followed. Nothing
/// there: does nothing. What cannot be removed stays, without an error. Stands in for
/// std::filesystem::remove_all, of which LibTorch 2.11 for CUDA exports a broken copy that the
/// linker prefers to the standard library's.
void remove_folder(const std::filesystem::path& path) noexcept;

}  // namespace ssa
