// LowRankKernels for the instruction set of the including file (see lanes.h).
#pragma once

#include "nn/cpu/lanes.h"
#include "nn/cpu/low_rank_kernels.h"

namespace ssa::cpu {
namespace {

inline constexpr int kStripVectors = static_cast<int>(kUpdateStripRows) / kLanes;

/// In two steps, as load(const uint8_t*).
inline Floats load(const int8_t* from) {
  using SignedBytes [[gnu::vector_size(kLanes)]] = int8_t;
  using SignedHalves [[gnu::vector_size(2 * kLanes)]] = int16_t;
  SignedBytes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  const Ints numbers = __builtin_convertvector(__builtin_convertvector(bytes, SignedHalves), Ints);
  return __builtin_convertvector(numbers, Floats);
}

/// kRows rows of a with one token, which is loaded once for all.
template <int kRows, class T>
inline void project_rows(const T* a, const T* x, int64_t n_in, float scale, float* z) {
  Floats sums[kRows] = {};
  for (int64_t i = 0; i < n_in; i += kLanes) {
    const Floats numbers = load_some(x + i, n_in - i);
    for (int r = 0; r < kRows; ++r) {
      sums[r] += load_some(a + r * n_in + i, n_in - i) * numbers;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    z[r] = scale * sum_of(sums[r]);
  }
}

template <class T>
void project(const T* a,
             const T* x,
             int64_t n_tokens,
             int64_t n_in,
             float scale,
             int64_t begin,
             int64_t end,
             float* z,
             int64_t z_stride) {
  constexpr int kTile = 4;  // enough sums under way for the additions' latency
  for (int64_t row = begin; row < end;) {
    const bool whole = end - row >= kTile;
    for (int64_t t = 0; t < n_tokens; ++t) {
      const auto rows = whole ? project_rows<kTile, T> : project_rows<1, T>;
      rows(a + row * n_in, x + t * n_in, n_in, scale, z + t * z_stride + row);
    }
    row += whole ? kTile : 1;
  }
}

/// One strip. scales may be null: 1.
template <class Number, class T>
inline void add_strip(const Number* strip,
                      const BF16* scales,
                      const UpdatedRows<T>& rows,
                      int64_t s) {
  const int64_t first = s * kUpdateStripRows, left = rows.n_rows - first;
  for (int64_t t = 0; t < rows.n_tokens; ++t) {
    const float* z = rows.z + t * rows.z_stride;
    Floats sums[kStripVectors] = {};
    for (int64_t r = 0; r < rows.rank; ++r) {
      for (int v = 0; v < kStripVectors; ++v) {
        sums[v] += load(strip + r * kUpdateStripRows + v * kLanes) * z[r];
      }
    }
    T* y = rows.y + t * rows.y_stride + first;
    for (int v = 0; v < kStripVectors && v * kLanes < left; ++v) {
      const int64_t at = v * kLanes;
      const Floats sum = scales != nullptr ? sums[v] * load(scales + at) : sums[v];
      store_some(load_some(y + at, left - at) + sum, y + at, left - at);
    }
  }
}

template <class T>
void add_update(const T* strips, const UpdatedRows<T>& rows, int64_t begin, int64_t end) {
  for (int64_t s = begin; s < end; ++s) {
    add_strip(strips + s * rows.rank * kUpdateStripRows, nullptr, rows, s);
  }
}

template <class T>
void add_int8_update(const std::byte* strips,
                     const UpdatedRows<T>& rows,
                     int64_t begin,
                     int64_t end) {
  for (int64_t s = begin; s < end; ++s) {
    const std::byte* strip = strips + s * int8_update_strip_bytes(rows.rank);
    add_strip(reinterpret_cast<const int8_t*>(strip),
              reinterpret_cast<const BF16*>(strip + rows.rank * kUpdateStripRows),
              rows,
              s);
  }
}

template <class T>
constexpr LowRankKernels<T> kLowRankKernels = {project<T>, add_update<T>, add_int8_update<T>};

}  // namespace
}  // namespace ssa::cpu
