#include "nn/huge_pages.h"

#include <sys/mman.h>

#include "base/error.h"
#include "base/text.h"

namespace ssa {

torch::Tensor empty_in_huge_pages(int64_t n_bytes) {
  constexpr size_t kHugePage = size_t{1} << 21;
  const size_t size = static_cast<size_t>(n_bytes) + kHugePage;  // room to begin at a page's edge
  void* mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(mapped != MAP_FAILED,
        "there is no memory for ",
        format_bytes(static_cast<uint64_t>(n_bytes)));
  const size_t past_edge = reinterpret_cast<uintptr_t>(mapped) % kHugePage;
  auto* begin = static_cast<std::byte*>(mapped) + (past_edge == 0 ? 0 : kHugePage - past_edge);
  ::madvise(begin,
            static_cast<size_t>(n_bytes),
            MADV_HUGEPAGE);  // without it the pages are small, and all else the same
  return torch::from_blob(
      begin, {n_bytes}, [=](void*) { ::munmap(mapped, size); }, torch::kUInt8);
}

}  // namespace ssa
