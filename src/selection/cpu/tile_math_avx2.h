// AVX2 arithmetic for tile_dot.h: a lane is two registers. bf16 keys are taken apart by a shift and
// a mask and meet q in float32; int8 keys meet q as 16-bit integers, exactly summed.
#pragma once

#if defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "selection/cpu/quantize_row.h"

namespace ssa::cpu {
namespace {

inline __m256i load_256(const std::byte* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}

struct Avx2F32 {
  struct Sum {
    __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
  };
  using Columns = Sum;
  struct Row {
    __m256 v;
  };

  static constexpr int kDims = 1, kRowWords = 1, kMaxRows = 6;

  static float pack(const float* q, int64_t head_dim, uint32_t* words) {
    std::memcpy(words, q, static_cast<size_t>(head_dim) * sizeof(float));
    return 1;
  }
  static Columns load(const std::byte* at) {
    const auto* floats = reinterpret_cast<const float*>(at);
    return {_mm256_loadu_ps(floats), _mm256_loadu_ps(floats + 8)};
  }
  static Row broadcast(const uint32_t* at) {
    return {_mm256_broadcast_ss(reinterpret_cast<const float*>(at))};
  }
  static Sum add_product(Sum sum, Columns columns, Row row) {
    return {_mm256_fmadd_ps(columns.low, row.v, sum.low),
            _mm256_fmadd_ps(columns.high, row.v, sum.high)};
  }
  static void finish(Sum sum, const std::byte* /*scales*/, float /*factor*/, float* out) {
    _mm256_storeu_ps(out, sum.low);
    _mm256_storeu_ps(out + 8, sum.high);
  }

  /// For vectors side by side: sum += a * b over 16 dimensions, and the sum's total.
  static Sum add_dot(Sum sum, const float* a, const float* b) {
    return {_mm256_fmadd_ps(_mm256_loadu_ps(a), _mm256_loadu_ps(b), sum.low),
            _mm256_fmadd_ps(_mm256_loadu_ps(a + 8), _mm256_loadu_ps(b + 8), sum.high)};
  }
  static float total(Sum sum) {
    const __m256 eight = _mm256_add_ps(sum.low, sum.high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
};

struct Avx2BF16 {
  using Sum = Avx2F32::Sum;
  struct Columns {
    Sum even, odd;
  };
  struct Row {
    Avx2F32::Row even, odd;
  };

  static constexpr int kDims = 2, kRowWords = 2, kMaxRows = 4;

  static float pack(const float* q, int64_t head_dim, uint32_t* words) {
    return Avx2F32::pack(q, head_dim, words);
  }
  static __m256 even(__m256i pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)); }
  static __m256 odd(__m256i pairs) {
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-0x10000)));
  }
  static Columns load(const std::byte* at) {
    const __m256i low = load_256(at), high = load_256(at + 32);
    return {{even(low), even(high)}, {odd(low), odd(high)}};
  }
  static Row broadcast(const uint32_t* at) {
    return {Avx2F32::broadcast(at), Avx2F32::broadcast(at + 1)};
  }
  static Sum add_product(Sum sum, Columns columns, Row row) {
    return Avx2F32::add_product(
        Avx2F32::add_product(sum, columns.even, row.even), columns.odd, row.odd);
  }
  static void finish(Sum sum, const std::byte* scales, float factor, float* out) {
    Avx2F32::finish(sum, scales, factor, out);
  }
};

/// A key's four bytes of a step as 16-bit pairs (0, 2) and (1, 3): shifts, no shuffle.
struct Avx2Int8 {
  struct Sum {
    __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
  };
  struct Columns {
    Sum even, odd;
  };
  struct Row {
    __m256i even, odd;
  };

  static constexpr int kDims = 4, kRowWords = 2, kMaxRows = 4;

  static float pack(const float* q, int64_t head_dim, uint32_t* words) {
    return quantize_row(q, head_dim, words);
  }
  static __m256i even(__m256i bytes) { return _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8); }
  static __m256i odd(__m256i bytes) { return _mm256_srai_epi16(bytes, 8); }
  static Columns load(const std::byte* at) {
    const __m256i low = load_256(at), high = load_256(at + 32);
    return {{even(low), even(high)}, {odd(low), odd(high)}};
  }
  static Row broadcast(const uint32_t* at) {
    return {_mm256_set1_epi32(static_cast<int>(at[0])), _mm256_set1_epi32(static_cast<int>(at[1]))};
  }
  static __m256i add_pairs(__m256i sum, __m256i even, __m256i odd, Row row) {
    const __m256i products =
        _mm256_add_epi32(_mm256_madd_epi16(even, row.even), _mm256_madd_epi16(odd, row.odd));
    return _mm256_add_epi32(sum, products);
  }
  static Sum add_product(Sum sum, Columns columns, Row row) {
    return {add_pairs(sum.low, columns.even.low, columns.odd.low, row),
            add_pairs(sum.high, columns.even.high, columns.odd.high, row)};
  }
  static void finish_half(__m256i sum, const std::byte* scales, float factor, float* out) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(scales));
    const __m256 scale = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);
    _mm256_storeu_ps(out, _mm256_mul_ps(scaled, _mm256_set1_ps(factor)));
  }
  static void finish(Sum sum, const std::byte* scales, float factor, float* out) {
    finish_half(sum.low, scales, factor, out);
    finish_half(sum.high, scales + 16, factor, out + 8);
  }
};

}  // namespace
}  // namespace ssa::cpu

#endif
