#include "kv/page_pool.h"

#include <algorithm>

namespace ssa {
namespace {

constexpr int64_t kSlabBytes = 64 << 20;  // of address space: memory is used page by page

}  // namespace

std::byte* PagePool::take() {
  const std::lock_guard lock(mutex_);
  if (!free_.empty()) {
    std::byte* page = free_.back();
    free_.pop_back();
    return page;
  }
  const int64_t pages_per_slab = std::max<int64_t>(1, kSlabBytes / page_bytes_);
  if (slabs_.empty() || slab_used_ == pages_per_slab) {
    GrowingBuffer slab;
    slab.reserve(pages_per_slab * page_bytes_);
    slabs_.push_back(std::move(slab));
    slab_used_ = 0;
  }
  return slabs_.back().data() + page_bytes_ * slab_used_++;
}

void PagePool::give_back(std::byte* page) {
  const std::lock_guard lock(mutex_);
  free_.push_back(page);
}

}  // namespace ssa
