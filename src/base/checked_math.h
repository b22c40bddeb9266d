// Arithmetic on sizes read from files: overflow is an error of the file, never a wrapped number.
#pragma once

#include <cstdint>
#include <span>

#include "base/error.h"

namespace ssa {

/// a + b; throws Error naming `what` on overflow.
inline uint64_t checked_add(uint64_t a, uint64_t b, const char* what) {
  uint64_t sum = 0;
  check(!__builtin_add_overflow(a, b, &sum), what, ": ", a, " + ", b, " overflows 64 bits");
  return sum;
}

/// a * b; throws Error naming `what` on overflow.
inline uint64_t checked_mul(uint64_t a, uint64_t b, const char* what) {
  uint64_t product = 0;
  check(!__builtin_mul_overflow(a, b, &product), what, ": ", a, " * ", b, " overflows 64 bits");
  return product;
}

/// Number of elements of a shape (1 for a scalar); throws Error naming `what` on a negative size or
/// overflow.
inline uint64_t checked_numel(std::span<const int64_t> shape, const char* what) {
  uint64_t n = 1;
  for (const int64_t size : shape) {
    check(size >= 0, what, ": negative size ", size);
    n = checked_mul(n, static_cast<uint64_t>(size), what);
  }
  return n;
}

}  // namespace ssa
