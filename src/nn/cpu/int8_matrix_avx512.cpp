// Int8Kernels with AVX-512 VNNI: one instruction multiplies four columns of 16 rows with one token's four bytes.
//
// A strip's block is eight loads of 64 bytes and, for each token, eight dot products that take the token's bytes as a
// broadcast from memory, one conversion, two products. With one token that is about 35 bytes a cycle, twice what a core
// can read.
#include <immintrin.h>

#include "nn/cpu/int8_matrix.h"
#include "nn/cpu/int8_rows.h"

namespace ssa::cpu {
namespace {

template <int kTokens, class T>
void multiply_strip(const Int8MatrixView& weights, const Int8Tokens& x, int64_t s, const T* bias, T* out, int64_t out_stride) {
  const int64_t n_blocks = weights.n_blocks();
  const std::byte* tile = weights.strips + s * weights.strip_bytes();
  const std::byte* scales = tile + n_blocks * kBlockWeights * kStripRows;
  __m512 sums[kTokens];
  for (__m512& sum : sums) {
    sum = _mm512_setzero_ps();
  }
  for (int64_t b = 0; b < n_blocks; ++b, tile += kBlockWeights * kStripRows, scales += 2 * kStripRows) {
    __m512i dots[kTokens];
    for (int t = 0; t < kTokens; ++t) {
      dots[t] = _mm512_set1_epi32(x.offsets[t * n_blocks + b]);
    }
    for (int64_t i = 0; i < kBlockWeights; i += 4) {
      const __m512i columns = _mm512_loadu_si512(tile + i * kStripRows);
      for (int t = 0; t < kTokens; ++t) {
        int32_t four;
        std::memcpy(&four, x.bytes + (t * n_blocks + b) * kBlockWeights + i, sizeof four);
        dots[t] = _mm512_dpbusd_epi32(dots[t], columns, _mm512_set1_epi32(four));
      }
    }
    const __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales)));
    for (int t = 0; t < kTokens; ++t) {
      const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(x.scales[t * n_blocks + b]));
      sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[t]), both, sums[t]);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    float row_sums[kStripRows];
    _mm512_storeu_ps(row_sums, sums[t]);
    store_sums(row_sums, weights, s, bias, out + t * out_stride);
  }
}

template <int kTokens, class T>
void multiply_strips(const Int8MatrixView& weights,
                     const Int8Tokens& x,
                     int64_t begin,
                     int64_t end,
                     const T* bias,
                     T* out,
                     int64_t out_stride) {
  for (int64_t s = begin; s < end; ++s) {
    multiply_strip<kTokens>(weights, x, s, bias, out, out_stride);
  }
}

template <class T>
void multiply(const Int8MatrixView& weights,
              const Int8Tokens& x,
              int64_t n_tokens,
              int64_t begin,
              int64_t end,
              const T* bias,
              T* out,
              int64_t out_stride) {
  static constexpr decltype(&multiply_strips<1, T>) kByTokens[kMaxTokens] = {
      multiply_strips<1, T>, multiply_strips<2, T>, multiply_strips<3, T>, multiply_strips<4, T>,
      multiply_strips<5, T>, multiply_strips<6, T>, multiply_strips<7, T>, multiply_strips<8, T>};
  kByTokens[n_tokens - 1](weights, x, begin, end, bias, out, out_stride);
}

}  // namespace

template <class T>
const Int8Kernels<T>& int8_kernels_avx512() {
  static constexpr Int8Kernels<T> kernels = {quantize<T>, multiply<T>, unpack<T>};
  return kernels;
}

template const Int8Kernels<float>& int8_kernels_avx512();
template const Int8Kernels<BF16>& int8_kernels_avx512();

}  // namespace ssa::cpu
