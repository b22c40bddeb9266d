// Int8Kernels with AVX2, half a strip (eight rows) in a register.
//
// AVX2 multiplies unsigned with signed bytes and adds pairs in 16 bits, which must not overflow: the weight's magnitude
// (at most 128) is the unsigned factor and its sign moves to the token's byte (at most 127), so a pair is at most 32,512.
// About 16 bytes a cycle with one token, more than a core can read.
#include <immintrin.h>

#include "nn/cpu/int8_matrix.h"
#include "nn/cpu/int8_rows.h"

namespace ssa::cpu {
namespace {

constexpr int64_t kHalfRows = kStripRows / 2;

/// Eight rows of a strip: four tokens at most, which with two registers each and the weights fill the 16 there are.
template <int kTokens>
void multiply_half(const std::byte* strip, int64_t half, const Int8Tokens& x, int64_t n_blocks, float (*out)[kStripRows]) {
  const std::byte* tile = strip + half * kHalfRows * 4;
  const std::byte* scales = strip + n_blocks * kBlockWeights * kStripRows + half * kHalfRows * 2;
  const __m256i ones = _mm256_set1_epi16(1), bias = _mm256_set1_epi8(-128);
  __m256 sums[kTokens];
  for (__m256& sum : sums) {
    sum = _mm256_setzero_ps();
  }
  for (int64_t b = 0; b < n_blocks; ++b, tile += kBlockWeights * kStripRows, scales += 2 * kStripRows) {
    __m256i dots[kTokens];
    for (__m256i& dot : dots) {
      dot = _mm256_setzero_si256();
    }
    for (int64_t i = 0; i < kBlockWeights; i += 4) {
      const __m256i biased = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile + i * kStripRows));
      const __m256i columns = _mm256_xor_si256(biased, bias), magnitudes = _mm256_abs_epi8(columns);
      for (int t = 0; t < kTokens; ++t) {
        int32_t four;
        std::memcpy(&four, x.bytes + (t * n_blocks + b) * kBlockWeights + i, sizeof four);
        const __m256i token = _mm256_sign_epi8(_mm256_set1_epi32(four), columns);
        const __m256i pairs = _mm256_maddubs_epi16(magnitudes, token);
        dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(pairs, ones));
      }
    }
    const __m256 scale = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales)));
    for (int t = 0; t < kTokens; ++t) {
      const __m256 both = _mm256_mul_ps(scale, _mm256_set1_ps(x.scales[t * n_blocks + b]));
      sums[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t]), both, sums[t]);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    _mm256_storeu_ps(out[t] + half * kHalfRows, sums[t]);
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
    const std::byte* strip = weights.strips + s * weights.strip_bytes();
    float sums[kTokens][kStripRows];
    multiply_half<kTokens>(strip, 0, x, weights.n_blocks(), sums);
    multiply_half<kTokens>(strip, 1, x, weights.n_blocks(), sums);
    for (int t = 0; t < kTokens; ++t) {
      store_sums(sums[t], weights, s, bias, out + t * out_stride);
    }
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
  constexpr int64_t kAtOnce = 4;
  static constexpr decltype(&multiply_strips<1, T>) kByTokens[kAtOnce] = {
      multiply_strips<1, T>, multiply_strips<2, T>, multiply_strips<3, T>, multiply_strips<4, T>};
  const int64_t n_blocks = weights.n_blocks();
  for (int64_t s = begin; s < end; ++s) {  // the second four tokens find the strip in the cache
    for (int64_t t = 0; t < n_tokens; t += kAtOnce) {
      const Int8Tokens four = {x.bytes + t * n_blocks * kBlockWeights, x.scales + t * n_blocks, x.offsets + t * n_blocks};
      const int64_t n = n_tokens - t < kAtOnce ? n_tokens - t : kAtOnce;
      kByTokens[n - 1](weights, four, s, s + 1, bias, out + t * out_stride, out_stride);
    }
  }
}

}  // namespace

template <class T>
const Int8Kernels<T>& int8_kernels_avx2() {
  static constexpr Int8Kernels<T> kernels = {quantize<T>, multiply<T>, unpack<T>};
  return kernels;
}

template const Int8Kernels<float>& int8_kernels_avx2();
template const Int8Kernels<BF16>& int8_kernels_avx2();

}  // namespace ssa::cpu
