#include "base/remove_folder.h"

#include <ftw.h>

#include <cstdio>

namespace ssa {

void remove_folder(const std::filesystem::path& path) noexcept {
  constexpr int kOpenFolders = 16;
  const auto remove_one = [](const char* name, const struct stat*, int, FTW*) {
    std::remove(name);
    return 0;  // on with the rest
  };
  nftw(path.c_str(), remove_one, kOpenFolders, FTW_DEPTH | FTW_PHYS);
}

}  // namespace ssa
