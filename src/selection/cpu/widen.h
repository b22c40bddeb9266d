// Stored vectors as floats, compiled for each instruction set; see kv/kv_format.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kv/kv_format.h"

namespace ssa::cpu {
namespace {

inline float bf16_at(const std::byte* at) {
  uint16_t half;
  std::memcpy(&half, at, sizeof half);
  return __builtin_bit_cast(float, uint32_t{half} << 16);
}

/// A vector's numbers, and as the result what they must be multiplied by: the scale of int8,
/// else 1.
inline float widen(KvType type, const std::byte* vector, int64_t head_dim, float* out) {
  switch (type) {
    case KvType::kF32:
      std::memcpy(out, vector, static_cast<size_t>(head_dim) * sizeof(float));
      return 1;
    case KvType::kBF16:
      for (int64_t i = 0; i < head_dim; ++i) {
        out[i] = bf16_at(vector + 2 * i);
      }
      return 1;
    case KvType::kInt8:
      for (int64_t i = 0; i < head_dim; ++i) {
        out[i] = static_cast<float>(static_cast<int8_t>(vector[i]));
      }
  }
  return bf16_at(vector + head_dim);
}

}  // namespace
}  // namespace ssa::cpu
