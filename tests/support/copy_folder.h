// Copies of folders of files, for tests. Not by std::filesystem::copy: base/list_folder.h says why.
#pragma once

#include "base/file.h"
#include "base/list_folder.h"

namespace ssa {

inline void copy_folder(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::filesystem::create_directories(to);
  for (const std::filesystem::path& entry : list_folder(from)) {
    write_file(to / entry.filename(), read_file(entry));
  }
}

}  // namespace ssa
