#include "base/memory.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace ssa {
namespace {

/// Program code in memory, in kilobytes, after every page of it has been read or as it is.
uint64_t resident_code(bool read_all) {
  std::ifstream file("/proc/self/smaps");
  bool is_code = false;
  uint64_t sum = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string first, second, offset, device;
    uint64_t inode = 0;
    words >> first >> second;
    if (first.back() != ':') {
      words >> offset >> device >> inode;
      is_code = inode != 0 && second == "r-xp";
      const size_t dash = first.find('-');
      if (is_code && read_all) {
        const auto end = std::stoull(first.substr(dash + 1), nullptr, 16);
        for (auto at = std::stoull(first.substr(0, dash), nullptr, 16); at < end; at += 4096) {
          static_cast<void>(*reinterpret_cast<const volatile char*>(at));
        }
      }
    } else if (first == "Rss:" && is_code) {
      sum += std::stoull(second);
    }
  }
  return sum;
}

TEST(Memory, ProgramCodeGoesAndComesBack) {
  resident_code(true);
  const uint64_t before = resident_code(false);
  forget_program_code();
  const uint64_t after = resident_code(false);
  EXPECT_GT(before, 1000u);  // the C++ library alone is larger
  EXPECT_LT(after, before * 3 / 4);
  EXPECT_GE(peak_resident_bytes(), before * 1024);
}

}  // namespace
}  // namespace ssa
