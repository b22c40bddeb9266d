// Scores of a few keys that lie as vectors: the children of a kept meta-gist. Four keys at a time
// are widened to float32 in the first-level cache and meet every row there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "selection/cpu/score.h"
#include "selection/cpu/widen.h"

namespace ssa::cpu {
namespace {

inline constexpr int kKeysTogether = 4;
inline constexpr int64_t kMaxVectorDims = 512, kDotDims = 16;

/// Widened keys, filled up with zeros to a multiple of kDotDims.
struct WideKeys {
  alignas(64) float dims[kKeysTogether][kMaxVectorDims];
  float factors[kKeysTogether];
};

/// Keys [first, first + kKeys) with one row. A key's sum takes the same steps whether it comes
/// alone or with others.
template <class F32, int kKeys>
void score_keys(
    const WideKeys& keys, int64_t first, const float* row, int64_t n_dims, float* scores) {
  typename F32::Sum sums[kKeys] = {};
  for (int64_t i = 0; i < n_dims; i += kDotDims) {
#pragma GCC unroll 4
    for (int key = 0; key < kKeys; ++key) {
      sums[key] = F32::add_dot(sums[key], row + i, keys.dims[first + key] + i);
    }
  }
#pragma GCC unroll 4
  for (int key = 0; key < kKeys; ++key) {
    scores[key] = F32::total(sums[key]) * keys.factors[first + key];
  }
}

/// A row of q, copied only where it must be filled up with zeros.
inline const float* padded_row(const float* q, int64_t head_dim, float* copy) {
  if (head_dim % kDotDims == 0) {
    return q;
  }
  std::memcpy(copy, q, static_cast<size_t>(head_dim) * sizeof(float));
  std::memset(copy + head_dim, 0, (kDotDims / 2) * sizeof(float));
  return copy;
}

/// ScoreKernels::score_vectors.
template <class F32>
void score_vectors(KvType type,
                   int64_t head_dim,
                   const float* q,
                   int64_t n_rows,
                   const std::byte* keys,
                   int64_t key_stride,
                   int64_t n_keys,
                   float* scores,
                   int64_t stride) {
  const int64_t n_dims = (head_dim + kDotDims - 1) / kDotDims * kDotDims;
  WideKeys wide;
  float copy[kMaxVectorDims];
  for (int64_t first = 0; first < n_keys; first += kKeysTogether) {
    const int64_t n = n_keys - first < kKeysTogether ? n_keys - first : kKeysTogether;
    for (int64_t key = 0; key < n; ++key) {
      float* dims = wide.dims[key];
      wide.factors[key] = widen(type, keys + (first + key) * key_stride, head_dim, dims);
      std::memset(dims + head_dim, 0, static_cast<size_t>(n_dims - head_dim) * sizeof(float));
    }
    for (int64_t row = 0; row < n_rows; ++row) {
      const float* padded = padded_row(q + row * head_dim, head_dim, copy);
      float* out = scores + row * stride + first;
      if (n == kKeysTogether) {
        score_keys<F32, kKeysTogether>(wide, 0, padded, n_dims, out);
        continue;
      }
      for (int64_t key = 0; key < n; ++key) {
        score_keys<F32, 1>(wide, key, padded, n_dims, out + key);
      }
    }
  }
}

}  // namespace
}  // namespace ssa::cpu
