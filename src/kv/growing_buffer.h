// Contiguous memory that grows without being copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace ssa {

/// Bytes straight from the kernel: zero at first, touched only where written, moved by remapping
/// when they grow. On huge pages where they are large. Growing invalidates pointers. Not
/// thread-safe.
class GrowingBuffer {
 public:
  GrowingBuffer() = default;
  GrowingBuffer(GrowingBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), capacity_(std::exchange(other.capacity_, 0)) {}
  GrowingBuffer& operator=(GrowingBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  ~GrowingBuffer();

  /// Room for `bytes` in all, kept content in front. Throws Error if the machine has no such
  /// address space.
  void reserve(int64_t bytes);

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  int64_t capacity_ = 0;
};

}  // namespace ssa
