#include "base/memory.h"

#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>

namespace ssa {
namespace {

/// The number in a file that holds one, else `fallback` (a missing file, or "max").
uint64_t number_in(const char* path, uint64_t fallback) {
  std::ifstream file(path);
  uint64_t value = 0;
  return file >> value ? value : fallback;
}

uint64_t machine_available() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  uint64_t kilobytes = 0;
  std::string unit;
  while (file >> key >> kilobytes) {
    if (key == "MemAvailable:") {
      return kilobytes * 1024;
    }
    std::getline(file, unit);
  }
  return std::numeric_limits<uint64_t>::max();
}

/// A range of this process's addresses.
struct Mapping {
  uintptr_t begin = 0, end = 0;
  char access[5] = {};
  uint64_t inode = 0;  // 0: of no file

  bool is_code() const { return inode != 0 && std::string_view(access) == "r-xp"; }
};

/// Reads the first line of a mapping's entry in smaps; others are left alone.
bool read_mapping(const std::string& line, Mapping& out) {
  Mapping found;
  if (std::sscanf(line.c_str(),
                  "%lx-%lx %4s %*x %*x:%*x %lu",
                  &found.begin,
                  &found.end,
                  found.access,
                  &found.inode) != 4) {
    return false;
  }
  out = found;
  return true;
}

}  // namespace

uint64_t peak_resident_bytes() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

uint64_t available_memory_bytes() {
  constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();
  const uint64_t limit = number_in("/sys/fs/cgroup/memory.max", kUnlimited);
  if (limit == kUnlimited) {
    return machine_available();
  }
  const uint64_t used = number_in("/sys/fs/cgroup/memory.current", 0);
  return std::min(machine_available(), limit > used ? limit - used : 0);
}

void return_freed_memory() noexcept {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

void forget_mapped_pages(std::span<const std::byte> bytes) noexcept {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(bytes.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(bytes.data() + bytes.size()) / page * page;
  if (begin < end) {
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }
}

void forget_program_code() noexcept {
  try {
    std::ifstream file("/proc/self/smaps");
    Mapping mapping;
    for (std::string line; std::getline(file, line);) {
      if (read_mapping(line, mapping) || !mapping.is_code()) {
        continue;
      }
      // Pages that someone has written to, a debugger say, are in no file.
      uint64_t kilobytes = 0;
      if (std::sscanf(line.c_str(), "Private_Dirty: %lu kB", &kilobytes) == 1 && kilobytes == 0) {
        madvise(reinterpret_cast<void*>(mapping.begin), mapping.end - mapping.begin, MADV_DONTNEED);
      }
    }
  } catch (const std::exception&) {  // out of memory: then the code stays
  }
}

}  // namespace ssa
