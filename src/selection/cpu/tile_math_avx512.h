// AVX-512 arithmetic for tile_dot.h. bf16 keys meet q rounded to bf16, two dimensions an
// instruction; int8 keys meet q as 16-bit integers, exactly summed, so that int8 loses nothing to
// q's rounding.
#pragma once

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "selection/cpu/quantize_row.h"

namespace ssa::cpu {
namespace {

struct Avx512F32 {
  struct Sum {
    __m512 v = _mm512_setzero_ps();
  };
  using Columns = Sum;
  using Row = Sum;

  static constexpr int kDims = 1, kRowWords = 1, kMaxRows = 8;

  static float pack(const float* q, int64_t head_dim, uint32_t* words) {
    std::memcpy(words, q, static_cast<size_t>(head_dim) * sizeof(float));
    return 1;
  }
  static Columns load(const std::byte* at) { return {_mm512_loadu_ps(at)}; }
  static Row broadcast(const uint32_t* at) {
    return {_mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(*at)))};
  }
  static Sum add_product(Sum sum, Columns columns, Row row) {
    return {_mm512_fmadd_ps(columns.v, row.v, sum.v)};
  }
  static void finish(Sum sum, const std::byte* /*scales*/, float /*factor*/, float* out) {
    _mm512_storeu_ps(out, sum.v);
  }

  /// For vectors side by side: sum += a * b over 16 dimensions, and the sum's total.
  static Sum add_dot(Sum sum, const float* a, const float* b) {
    return {_mm512_fmadd_ps(_mm512_loadu_ps(a), _mm512_loadu_ps(b), sum.v)};
  }
  static float total(Sum sum) { return _mm512_reduce_add_ps(sum.v); }
};

struct Avx512BF16 {
  using Sum = Avx512F32::Sum;
  struct Columns {
    __m512bh v;
  };
  using Row = Columns;

  static constexpr int kDims = 2, kRowWords = 1, kMaxRows = 8;

  static float pack(const float* q, int64_t head_dim, uint32_t* words) {
    for (int64_t i = 0; i < head_dim; i += 8) {
      const __m128bh rounded = _mm256_cvtneps_pbh(_mm256_loadu_ps(q + i));
      std::memcpy(words + i / 2, &rounded, sizeof rounded);
    }
    return 1;
  }
  static Columns load(const std::byte* at) {
    return {reinterpret_cast<__m512bh>(_mm512_loadu_si512(at))};
  }
  static Row broadcast(const uint32_t* at) {
    return {reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(*at)))};
  }
  static Sum add_product(Sum sum, Columns columns, Row row) {
    return {_mm512_dpbf16_ps(sum.v, columns.v, row.v)};
  }
  static void finish(Sum sum, const std::byte* /*scales*/, float /*factor*/, float* out) {
    _mm512_storeu_ps(out, sum.v);
  }
};

/// A key's four bytes of a step as 16-bit pairs (0, 2) and (1, 3): two shifts each, no shuffle.
struct Avx512Int8 {
  struct Sum {
    __m512i v = _mm512_setzero_si512();
  };
  struct Columns {
    __m512i even, odd;
  };
  using Row = Columns;

  static constexpr int kDims = 4, kRowWords = 2, kMaxRows = 8;

  static float pack(const float* q, int64_t head_dim, uint32_t* words) {
    return quantize_row(q, head_dim, words);
  }
  static Columns load(const std::byte* at) {
    const __m512i bytes = _mm512_loadu_si512(at);
    return {_mm512_srai_epi16(_mm512_slli_epi16(bytes, 8), 8), _mm512_srai_epi16(bytes, 8)};
  }
  static Row broadcast(const uint32_t* at) {
    return {_mm512_set1_epi32(static_cast<int>(at[0])), _mm512_set1_epi32(static_cast<int>(at[1]))};
  }
  static Sum add_product(Sum sum, Columns columns, Row row) {
    const __m512i even = _mm512_dpwssd_epi32(sum.v, columns.even, row.even);
    return {_mm512_dpwssd_epi32(even, columns.odd, row.odd)};
  }
  static void finish(Sum sum, const std::byte* scales, float factor, float* out) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales));
    const __m512 scale = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum.v), scale);
    _mm512_storeu_ps(out, _mm512_mul_ps(scaled, _mm512_set1_ps(factor)));
  }
};

}  // namespace
}  // namespace ssa::cpu

#endif
