#include "kv/growing_buffer.h"

#include <sys/mman.h>

#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace ssa {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kHugePage = 2 << 20;

}  // namespace

GrowingBuffer::~GrowingBuffer() {
  if (data_ != nullptr) {
    munmap(data_, static_cast<size_t>(capacity_));
  }
}

void GrowingBuffer::reserve(int64_t bytes) {
  if (bytes <= capacity_) {
    return;
  }
  const int64_t wanted = (std::max(bytes, capacity_ + capacity_ / 2) + kPage - 1) / kPage * kPage;
  void* mapped =
      data_ == nullptr
          ? mmap(nullptr,
                 static_cast<size_t>(wanted),
                 PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1,
                 0)
          : mremap(
                data_, static_cast<size_t>(capacity_), static_cast<size_t>(wanted), MREMAP_MAYMOVE);
  check(mapped != MAP_FAILED,
        "no memory for ",
        format_bytes(static_cast<uint64_t>(wanted)),
        " of keys and values");
  if (wanted >= 4 * kHugePage) {
    madvise(mapped, static_cast<size_t>(wanted), MADV_HUGEPAGE);
  }
  data_ = static_cast<std::byte*>(mapped);
  capacity_ = wanted;
}

}  // namespace ssa
