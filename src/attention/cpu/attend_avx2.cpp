// attend with AVX2 and FMA: computes in floats; bf16 and int8 are widened once for all heads.
#include <immintrin.h>

#include "attention/cpu/attend_rows.h"
#include "attention/cpu/attend_tables.h"

namespace ssa::cpu {
namespace {

struct Vec8 {
  using Register = __m256;
  static constexpr int64_t kLanes = 8;

  static Register set(float value) { return _mm256_set1_ps(value); }
  static Register load(const float* at) { return _mm256_loadu_ps(at); }
  static void store(float* at, Register x) { _mm256_storeu_ps(at, x); }
  // head_dim is a multiple of 8: there is no part of a register.
  static Register load_first(const float* at, int64_t) { return load(at); }
  static void store_first(float* at, int64_t, Register x) { store(at, x); }
  static Register add(Register a, Register b) { return _mm256_add_ps(a, b); }
  static Register subtract(Register a, Register b) { return _mm256_sub_ps(a, b); }
  static Register multiply(Register a, Register b) { return _mm256_mul_ps(a, b); }
  static Register multiply_add(Register a, Register b, Register c) {
    return _mm256_fmadd_ps(a, b, c);
  }
  static Register larger(Register a, Register b) { return _mm256_max_ps(a, b); }
  static Register round(Register x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Register times_power(Register x, Register n) {
    const __m256i bits = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), bits));
  }
  static Register zero_below(Register x, float floor, Register y) {
    return _mm256_and_ps(y, _mm256_cmp_ps(x, set(floor), _CMP_NLT_UQ));
  }
  static float sum_of_lanes(Register x) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
  }
  static float largest_lane(Register x) {
    __m128 most = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    most = _mm_max_ps(most, _mm_movehl_ps(most, most));
    return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
  }
  static void store_sums(Register a, Register b, Register c, Register d, float* out) {
    const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    const __m256 sums =
        _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xEE));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1)));
  }
};

/// Floats; other types are widened whenever they are loaded, once for a tile of heads: a pass of
/// its own that stores floats takes a third longer.
template <KvType kType>
struct FloatMath {
  using Vec = Vec8;
  using Operand = __m256;
  static constexpr int64_t kUnit = Vec8::kLanes;
  static constexpr Copies kCopies = Copies::kNever;
  // Of 16 registers, 3 x 4 scores take 12, queries 3 and a key 1; values 4 x 2 or 3 x 4, weights 4
  // or 3, and a value 1.
  static constexpr int kScoreHeads = 3;
  static constexpr int kValueHeads = 4;
  static constexpr int kSums = 12;
  static constexpr int kWeightKeys = 1;
  static constexpr int64_t kWeightBytes = 4;
  static constexpr int kUnitSums = 1;

  static void store_query(const float* values, int64_t, std::byte* out) {
    store(out, _mm256_loadu_ps(values));
  }
  static Operand load_query(const std::byte* at) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(at));
  }
  static Operand load_key(const std::byte* row, int64_t unit) {
    if constexpr (kType == KvType::kF32) {
      return load_query(row + unit * 32);
    } else if constexpr (kType == KvType::kBF16) {
      const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + unit * 16));
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    } else {
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + unit * 8));
      return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
    }
  }
  static Operand load_value(const std::byte* const* rows, int64_t unit, int) {
    return load_key(rows[0], unit);
  }
  static Operand store_weights(Operand p, const float* scales, std::byte* out) {
    store(out, scales == nullptr ? p : _mm256_mul_ps(p, _mm256_loadu_ps(scales)));
    return p;
  }
  static Operand broadcast(const std::byte* weight) {
    return _mm256_broadcast_ss(reinterpret_cast<const float*>(weight));
  }
  static Operand multiply_add(Operand a, Operand b, Operand sum) {
    return _mm256_fmadd_ps(a, b, sum);
  }

 private:
  static void store(std::byte* at, Operand x) { _mm256_storeu_ps(reinterpret_cast<float*>(at), x); }
};

}  // namespace

const AttendKernels kAttendAvx2 = {attend<FloatMath>, merge<Vec8>, finish<Vec8>};

}  // namespace ssa::cpu
