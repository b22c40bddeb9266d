// Memory for raw keys and values, in pages of one size that sequences share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "kv/growing_buffer.h"

namespace ssa {

/// Hands out pages and takes them back; memory goes back to the system with the pool. Thread-safe.
class PagePool {
 public:
  explicit PagePool(int64_t page_bytes) : page_bytes_(page_bytes) {}

  std::byte* take();
  void give_back(std::byte* page);

  int64_t page_bytes() const { return page_bytes_; }

 private:
  const int64_t page_bytes_;
  std::mutex mutex_;
  std::vector<GrowingBuffer> slabs_;
  int64_t slab_used_ = 0;  // pages of the last slab that were handed out at least once
  std::vector<std::byte*> free_;
};

}  // namespace ssa
