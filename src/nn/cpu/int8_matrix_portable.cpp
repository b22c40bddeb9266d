// Int8Kernels in plain loops, for any processor.
#include "nn/cpu/int8_matrix.h"
#include "nn/cpu/int8_rows.h"

namespace ssa::cpu {
namespace {

/// sums[r] += row r of the tile . x
void add_tile(const std::byte* tile, const int16_t* x, float x_scale, int32_t offset, float* sums) {
  int32_t dots[kStripRows] = {};
  for (int64_t i = 0; i < kBlockWeights; i += 4) {
    for (int64_t r = 0; r < kStripRows; ++r) {
      const std::byte* four = tile + (i / 4 * kStripRows + r) * 4;
      const auto product = [&](int64_t j) { return static_cast<int32_t>(four[j]) * x[i + j]; };
      dots[r] += product(0) + product(1) + product(2) + product(3);
    }
  }
  for (int64_t r = 0; r < kStripRows; ++r) {
    uint16_t half;
    std::memcpy(&half, tile + kTileScales + r * 2, sizeof half);
    sums[r] += static_cast<float>(dots[r] + offset) * (half_to_float(half) * x_scale);
  }
}

template <class T>
void multiply(const Int8MatrixView& weights,
              const QuantizedTokens& x,
              int64_t n_tokens,
              int64_t begin,
              int64_t end,
              const T* bias,
              T* out,
              int64_t out_stride) {
  const int64_t n_blocks = weights.n_blocks();
  for (int64_t s = begin; s < end; ++s) {
    const std::byte* strip = weights.strips + s * weights.strip_bytes();
    for (int64_t t = 0; t < n_tokens; ++t) {
      float sums[kStripRows] = {};
      for (int64_t b = 0; b < n_blocks; ++b) {
        const int64_t i = t * n_blocks + b;
        add_tile(
            strip + b * kTileBytes, x.numbers + i * kBlockWeights, x.scales[i], x.offsets[i], sums);
      }
      store_sums(sums, weights, s, bias, out + t * out_stride);
    }
  }
}

}  // namespace

template <class T>
const Int8Kernels<T>& int8_kernels_portable() {
  static constexpr Int8Kernels<T> kernels = {quantize<T>, multiply<T>, unpack<T>};
  return kernels;
}

template const Int8Kernels<float>& int8_kernels_portable();
template const Int8Kernels<BF16>& int8_kernels_portable();

}  // namespace ssa::cpu
