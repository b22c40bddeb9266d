#include <immintrin.h>

#include "selection/cpu/top_k_select.h"
#include "selection/cpu/top_k_tables.h"

namespace ssa::cpu {
namespace {

/// For each set of eight lanes, which lanes those are, in order: an index a byte.
struct LaneLists {
  uint8_t of[256][8] = {};
};

constexpr LaneLists make_lane_lists() {
  LaneLists lists;
  for (int set = 0; set < 256; ++set) {
    int n = 0;
    for (int lane = 0; lane < 8; ++lane) {
      if ((set >> lane & 1) != 0) {
        lists.of[set][n++] = static_cast<uint8_t>(lane);
      }
    }
  }
  return lists;
}

constexpr LaneLists kLaneLists = make_lane_lists();

/// Eight numbers, of which the first n are there; NaN, which reaches nothing, for the others.
__m256 load_some(const float* x, int64_t n) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i there = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lanes);
  const __m256 nothing = _mm256_andnot_ps(_mm256_castsi256_ps(there), _mm256_set1_ps(kNaN));
  return _mm256_or_ps(_mm256_maskload_ps(x, there), nothing);
}

unsigned lanes_reaching(__m256 numbers, __m256 limit) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(numbers, limit, _CMP_GE_OQ)));
}

struct Avx2Ops {
  static int64_t count(const float* x, int64_t n, float threshold) {
    const __m256 limit = _mm256_set1_ps(threshold);
    int64_t reached = 0;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
      reached += __builtin_popcount(lanes_reaching(_mm256_loadu_ps(x + i), limit));
    }
    return reached + __builtin_popcount(lanes_reaching(load_some(x + i, n - i), limit));
  }

  static float* keep_lanes(__m256 numbers, __m256 limit, float* out) {
    const unsigned reach = lanes_reaching(numbers, limit);
    const auto* list = reinterpret_cast<const __m128i*>(kLaneLists.of[reach]);
    const __m256i lanes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(list));
    _mm256_storeu_ps(out, _mm256_permutevar8x32_ps(numbers, lanes));
    return out + __builtin_popcount(reach);
  }

  static int64_t keep(const float* x, int64_t n, float threshold, float* out) {
    const __m256 limit = _mm256_set1_ps(threshold);
    float* end = out;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
      end = keep_lanes(_mm256_loadu_ps(x + i), limit, end);
    }
    return keep_lanes(load_some(x + i, n - i), limit, end) - out;
  }

  static Comparison compare(const float* x, float value) {
    const __m256 limit = _mm256_set1_ps(value);
    Comparison found = {};
#pragma GCC unroll 8
    for (int i = 0; i < 64; i += 8) {
      const __m256 numbers = _mm256_loadu_ps(x + i);
      const int above = _mm256_movemask_ps(_mm256_cmp_ps(numbers, limit, _CMP_GT_OQ));
      const int equal = _mm256_movemask_ps(_mm256_cmp_ps(numbers, limit, _CMP_EQ_OQ));
      found.above |= static_cast<uint64_t>(above) << i;
      found.equal |= static_cast<uint64_t>(equal) << i;
    }
    return found;
  }
};

}  // namespace

const TopKKernels kAvx2TopKKernels = {top_k<Avx2Ops>};

}  // namespace ssa::cpu
