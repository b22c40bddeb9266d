#include "cli/output_files.h"

#include <filesystem>

#include "base/error.h"
#include "base/file.h"

namespace ssa {

void check_writable(const std::string& path) {
  if (path.empty()) {
    return;
  }
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  check(!std::filesystem::is_directory(status), "cannot write ", path, ": it is a folder");
  if (std::filesystem::is_other(status)) {
    return;  // a device or pipe; whoever reads a pipe would take a probe's end for the end
  }
  const AtomicFile probe{std::filesystem::path(path)};
}

}  // namespace ssa
