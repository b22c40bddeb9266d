// Low-rank updates of a few tokens, on the CPU: z = scale * x A^T, y += z B^T.
//
// B's rows lie in strips of 16, rank by rank, so that each lane of a register ends as one row's
// sum:
//
//   strip         [rank][16 rows] numbers
//   int8 strip    the same, signed bytes, then the 16 rows' scales as bf16: 16 * (rank + 2) bytes
//
// Rows that fill up the last strip are 0. A beside 8-bit weights is a matrix like theirs
// (int8_matrix.h), so that one rounding of the tokens serves both.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu_features.h"
#include "nn/cpu/bf16.h"

namespace ssa::cpu {

inline constexpr int64_t kUpdateStripRows = 16;

inline constexpr int64_t int8_update_strip_bytes(int64_t rank) {
  return kUpdateStripRows * (rank + static_cast<int64_t>(sizeof(BF16)));
}

/// What is multiplied with one layer's B, and where its n_rows of y are.
template <class T>
struct UpdatedRows {
  const float* z = nullptr;  // [n_tokens, rank], z_stride apart
  int64_t z_stride = 0;
  int64_t n_tokens = 0;
  int64_t rank = 0;
  T* y = nullptr;  // [n_tokens, n_rows], y_stride apart
  int64_t y_stride = 0;
  int64_t n_rows = 0;
};

/// Functions of one instruction set, for tokens of type T: float or BF16. Sums are in float; y is
/// rounded once. Safe from many threads; none allocates.
template <class T>
struct LowRankKernels {
  /// Rows [begin, end) of a [., n_in]: z[t * z_stride + row] = scale * a[row] . x[t].
  void (*project)(const T* a,
                  const T* x,  // [n_tokens, n_in]
                  int64_t n_tokens,
                  int64_t n_in,
                  float scale,
                  int64_t begin,
                  int64_t end,
                  float* z,
                  int64_t z_stride);
  /// y += z B^T in the rows of strips [begin, end).
  void (*add)(const T* strips, const UpdatedRows<T>& rows, int64_t begin, int64_t end);
  void (*add_int8)(const std::byte* strips, const UpdatedRows<T>& rows, int64_t begin, int64_t end);
};

template <class T>
const LowRankKernels<T>& low_rank_kernels(InstructionSet set);

/// The tables it chooses from, each in a file of its own.
template <class T>
const LowRankKernels<T>& low_rank_kernels_portable();
template <class T>
const LowRankKernels<T>& low_rank_kernels_avx2();
template <class T>
const LowRankKernels<T>& low_rank_kernels_avx512();

}  // namespace ssa::cpu
