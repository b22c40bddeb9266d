// bfloat16 as kernels see it.
#pragma once

#include <cstdint>

namespace ssa::cpu {

/// The upper half of a float. Same bits as LibTorch's.
struct BF16 {
  uint16_t bits;
};

}  // namespace ssa::cpu
