#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

/// Rows of bf16 logits, eight at a time.
namespace ssa::cuda {

constexpr int kWidth = 8;  ///< Numbers of bf16 in 16 bytes.

/// What exponentials are measured against, and their sum.
struct Softmax {
  float largest, sum;
};

__device__ inline Softmax merge(Softmax a, Softmax b) {
  const float largest = fmaxf(a.largest, b.largest);
  if (largest == -INFINITY) {
    return {largest, 0.0F};
  }
  return {largest, a.sum * __expf(a.largest - largest) + b.sum * __expf(b.largest - largest)};
}

__device__ inline void unpack(const uint4& raw, float (&x)[kWidth]) {
  const uint32_t pairs[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = __uint_as_float(pairs[i] << 16);
    x[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000U);
  }
}

__device__ inline uint4 pack(const float (&x)[kWidth]) {
  uint32_t pairs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
    pairs[i] = *reinterpret_cast<const uint32_t*>(&both);
  }
  return uint4{pairs[0], pairs[1], pairs[2], pairs[3]};
}

__device__ inline float largest_of(const float (&x)[kWidth]) {
  float largest = x[0];
#pragma unroll
  for (int j = 1; j < kWidth; ++j) {
    largest = fmaxf(largest, x[j]);
  }
  return largest;
}

}  // namespace ssa::cuda
