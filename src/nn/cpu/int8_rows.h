// The parts of Int8Kernels that need no dot product: one text for every instruction set (see
// lanes.h).
#pragma once

#include <bit>
#include <cstring>

#include "nn/cpu/int8_matrix.h"
#include "nn/cpu/lanes.h"

namespace ssa::cpu {
namespace {

inline constexpr int kBlockVectors = static_cast<int>(kBlockWeights) / kLanes;

/// One block of numbers; gives its scale. A magnitude below 1e-30 counts as 0 (its inverse would
/// overflow); where one is not finite, the scale is not either, and so is every product.
template <class T>
inline float quantize_block(const T* x, int64_t n, int16_t* numbers, int32_t& offset) {
  Floats values[kBlockVectors];
  Ints largest{};
  for (int i = 0; i < kBlockVectors; ++i) {
    const int64_t left = n - i * kLanes;
    values[i] = left > 0 ? load_some(x + i * kLanes, left) : Floats{};
    const Ints magnitude =
        reinterpret_cast<Ints>(values[i]) & 0x7FFFFFFF;  // bits compare like floats, NaN above all
    largest = magnitude > largest ? magnitude : largest;
  }
  int32_t bits = 0;
  for (int i = 0; i < kLanes; ++i) {
    bits = largest[i] > bits ? largest[i] : bits;
  }
  const auto magnitude = std::bit_cast<float>(bits);
  constexpr float kLargest = 128 * 127;
  const float inverse = magnitude < 1e-30F ? 0.0F : kLargest / magnitude;
  Words sum{};  // of values that are not finite any number comes, and the scale says so
  for (int i = 0; i < kBlockVectors; ++i) {
    const Ints rounded = round_to_ints(values[i] * inverse);
    sum += reinterpret_cast<Words>(rounded);
    const Halves narrow = __builtin_convertvector(rounded, Halves);
    std::memcpy(numbers + i * kLanes, &narrow, sizeof narrow);
  }
  uint32_t total = 0;
  for (int i = 0; i < kLanes; ++i) {
    total += sum[i];
  }
  offset = static_cast<int32_t>(-128U * total);
  return inverse == 0.0F && magnitude < 1.0F ? 0.0F : magnitude / kLargest;
}

template <class T>
void quantize(const T* x, int64_t n_tokens, int64_t n_columns, const QuantizedTokens& out) {
  const int64_t n_blocks = (n_columns + kBlockWeights - 1) / kBlockWeights;
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (int64_t b = 0; b < n_blocks; ++b) {
      const int64_t column = b * kBlockWeights, i = t * n_blocks + b;
      out.scales[i] = quantize_block(x + t * n_columns + column,
                                     n_columns - column,
                                     out.numbers + i * kBlockWeights,
                                     out.offsets[i]);
    }
  }
}

inline float half_to_float(uint16_t half) {
  // The exponent is moved by a product, which sets the bits of subnormals right as well.
  const uint32_t shifted = (half & 0x7FFFU) << 13;
  const float magnitude = (half & 0x7C00U) == 0x7C00U ? std::bit_cast<float>(shifted | 0x7F800000U)
                                                      : std::bit_cast<float>(shifted) * 0x1p112F;
  return half & 0x8000U ? -magnitude : magnitude;
}

/// 32 biased bytes as numbers, of which n exist.
template <class T>
inline void unpack_block(const uint8_t* bytes, float scale, int64_t n, T* out) {
  for (int64_t i = 0; i < kBlockWeights && i < n; i += kLanes) {
    store_some(__builtin_convertvector(load(bytes + i) - 128, Floats) * scale, out + i, n - i);
  }
}

/// Rows [begin, end) of one strip, a block of all of them at a time: read back at once, the four
/// bytes just stored would stall the wider load.
template <class T>
inline void unpack_strip(
    const Int8MatrixView& weights, int64_t s, int64_t begin, int64_t end, T* out) {
  const int64_t n_blocks = weights.n_blocks();
  const std::byte* tile = weights.strips + s * weights.strip_bytes();
  for (int64_t b = 0; b < n_blocks; ++b, tile += kTileBytes) {
    uint8_t bytes[kStripRows][kBlockWeights];
    for (int64_t i = 0; i < kBlockWeights; i += 4) {
      for (int64_t r = begin; r < end; ++r) {
        std::memcpy(bytes[r] + i, tile + (i / 4 * kStripRows + r) * 4, 4);
      }
    }
    for (int64_t r = begin; r < end; ++r) {
      uint16_t half;
      std::memcpy(&half, tile + kTileScales + r * 2, sizeof half);
      const int64_t column = b * kBlockWeights;
      unpack_block(bytes[r],
                   half_to_float(half),
                   weights.n_columns - column,
                   out + (r - begin) * weights.n_columns + column);
    }
  }
}

template <class T>
void unpack(const Int8MatrixView& weights, int64_t begin, int64_t end, T* out) {
  while (begin < end) {
    const int64_t s = begin / kStripRows, first = begin % kStripRows;
    const int64_t n = end - begin < kStripRows - first ? end - begin : kStripRows - first;
    unpack_strip(weights, s, first, first + n, out);
    begin += n;
    out += n * weights.n_columns;
  }
}

/// Ends strip s of a product: its rows that exist, with their bias.
template <class T>
inline void store_sums(
    const float* sums, const Int8MatrixView& weights, int64_t s, const T* bias, T* out) {
  const int64_t first = s * kStripRows, n = weights.n_rows - first;
  for (int64_t i = 0; i < kStripRows && i < n; i += kLanes) {
    const Floats values = load(sums + i);
    store_some(bias != nullptr ? values + load_some(bias + first + i, n - i) : values,
               out + first + i,
               n - i);
  }
}

}  // namespace
}  // namespace ssa::cpu
