// Files that a command writes at its end.
#pragma once

#include <string>

namespace ssa {

/// Before any work: throws Error naming a path that could not be written at the end. An empty path
/// is none.
void check_writable(const std::string& path);

}  // namespace ssa
