#include <immintrin.h>

#include "attention/cpu/bank_attend_tables.h"
#include "attention/cpu/bank_engine_f32.h"
#include "selection/cpu/tile_math_avx2.h"

namespace ssa::cpu {
namespace {

struct Avx2Lane {
  using Register = Avx2F32::Sum;
  static constexpr float kLeast = -127;

  static Register load(const float* at) { return {_mm256_loadu_ps(at), _mm256_loadu_ps(at + 8)}; }
  static void store(float* at, Register x) { Avx2F32::finish(x, nullptr, 1, at); }
  static Register set(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static Register add(Register a, Register b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  static Register subtract(Register a, Register b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
  static Register multiply(Register a, Register b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  static Register multiply_add(Register a, Register b, Register c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static Register larger(Register a, Register b) {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
  }
  static __m256 first_of_half(__m256 x, int64_t n) {
    const int count = static_cast<int>(larger_of(smaller_of(n, 8), 0));
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i seen = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lanes);
    return _mm256_blendv_ps(_mm256_set1_ps(-__builtin_inff()), x, _mm256_castsi256_ps(seen));
  }
  static Register first(Register x, int64_t n) {
    return {first_of_half(x.low, n), first_of_half(x.high, n - 8)};
  }
  static bool any_above(Register x, float value) {
    const __m256 above =
        _mm256_cmp_ps(_mm256_max_ps(x.low, x.high), _mm256_set1_ps(value), _CMP_GT_OQ);
    return _mm256_movemask_ps(above) != 0;
  }
  static float largest_of(Register x) {
    const __m256 eight = _mm256_max_ps(x.low, x.high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  static __m256 whole(__m256 x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Register whole(Register x) { return {whole(x.low), whole(x.high)}; }
  static __m256 times_power(__m256 x, __m256 n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
  }
  static Register times_power(Register x, Register n) {
    return {times_power(x.low, n.low), times_power(x.high, n.high)};
  }
};

}  // namespace

const BankAttendKernels kAvx2BankAttendKernels = {
    attend_groups<EngineF32<Avx2F32, Avx2Lane, 6, 1>>};

}  // namespace ssa::cpu
