// What a folder holds. Not by std::filesystem's iterators: libtorch.so of 2.11 with CUDA brings
// functions of that name with another layout behind them, which crash whoever links it.
#pragma once

#include <filesystem>
#include <vector>

namespace ssa {

/// Entries of a folder without . and .., sorted by name. Empty if there is no such folder, or it
/// cannot be read.
std::vector<std::filesystem::path> list_folder(const std::filesystem::path& path);

}  // namespace ssa
