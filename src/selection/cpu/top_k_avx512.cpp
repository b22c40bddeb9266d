#include <immintrin.h>

#include "selection/cpu/top_k_select.h"
#include "selection/cpu/top_k_tables.h"

namespace ssa::cpu {
namespace {

/// The lowest n of 16 lanes.
__mmask16 lowest_lanes(int64_t n) {
  return static_cast<__mmask16>((1U << n) - 1);
}

/// 16 numbers, of which the first n are there; NaN, which reaches nothing, for the others.
__m512 load_some(const float* x, int64_t n) {
  return _mm512_mask_loadu_ps(_mm512_set1_ps(kNaN), lowest_lanes(n), x);
}

int count_lanes(__m512 numbers, __m512 limit) {
  return __builtin_popcount(_mm512_cmp_ps_mask(numbers, limit, _CMP_GE_OQ));
}

/// Compressed in a register and stored whole: compressing into memory is microcode on Zen 4, 100
/// cycles and more.
float* keep_lanes(__m512 numbers, __m512 limit, float* out) {
  const __mmask16 reach = _mm512_cmp_ps_mask(numbers, limit, _CMP_GE_OQ);
  _mm512_storeu_ps(out, _mm512_maskz_compress_ps(reach, numbers));
  return out + __builtin_popcount(reach);
}

struct Avx512Ops {
  static int64_t count(const float* x, int64_t n, float threshold) {
    const __m512 limit = _mm512_set1_ps(threshold);
    int64_t reached = 0;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      reached += count_lanes(_mm512_loadu_ps(x + i), limit);
    }
    return reached + count_lanes(load_some(x + i, n - i), limit);
  }

  static int64_t keep(const float* x, int64_t n, float threshold, float* out) {
    const __m512 limit = _mm512_set1_ps(threshold);
    float* end = out;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      end = keep_lanes(_mm512_loadu_ps(x + i), limit, end);
    }
    return keep_lanes(load_some(x + i, n - i), limit, end) - out;
  }

  static Comparison compare(const float* x, float value) {
    const __m512 limit = _mm512_set1_ps(value);
    Comparison found = {};
#pragma GCC unroll 4
    for (int i = 0; i < 64; i += 16) {
      const __m512 numbers = _mm512_loadu_ps(x + i);
      const __mmask16 above = _mm512_cmp_ps_mask(numbers, limit, _CMP_GT_OQ);
      const __mmask16 equal = _mm512_cmp_ps_mask(numbers, limit, _CMP_EQ_OQ);
      found.above |= uint64_t{above} << i;
      found.equal |= uint64_t{equal} << i;
    }
    return found;
  }
};

}  // namespace

const TopKKernels kAvx512TopKKernels = {top_k<Avx512Ops>};

}  // namespace ssa::cpu
