#include "base/list_folder.h"

#include <dirent.h>

#include <algorithm>
#include <memory>
#include <string_view>

namespace ssa {

std::vector<std::filesystem::path> list_folder(const std::filesystem::path& path) {
  std::vector<std::filesystem::path> entries;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path.c_str()), closedir);
  while (folder != nullptr) {
    const dirent* entry = readdir(folder.get());
    if (entry == nullptr) {
      break;
    }
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") {
      entries.push_back(path / name);
    }
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

}  // namespace ssa
