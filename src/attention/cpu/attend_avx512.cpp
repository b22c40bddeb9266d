// attend with AVX-512: f32 in floats, bf16 and int8 in pairs of bf16 summed in floats (vdpbf16ps),
// for which weights are rounded to bf16 too. Integers up to 127 are exact in bf16.
#include <immintrin.h>

#include "attention/cpu/attend_rows.h"
#include "attention/cpu/attend_tables.h"

namespace ssa::cpu {
namespace {

struct Vec16 {
  using Register = __m512;
  static constexpr int64_t kLanes = 16;

  static Register set(float value) { return _mm512_set1_ps(value); }
  static Register load(const float* at) { return _mm512_loadu_ps(at); }
  static void store(float* at, Register x) { _mm512_storeu_ps(at, x); }
  static __mmask16 first(int64_t n) {
    return n >= kLanes ? __mmask16{0xFFFF} : static_cast<__mmask16>((1U << n) - 1);
  }
  static Register load_first(const float* at, int64_t n) {
    return _mm512_maskz_loadu_ps(first(n), at);
  }
  static void store_first(float* at, int64_t n, Register x) {
    _mm512_mask_storeu_ps(at, first(n), x);
  }
  static Register add(Register a, Register b) { return _mm512_add_ps(a, b); }
  static Register subtract(Register a, Register b) { return _mm512_sub_ps(a, b); }
  static Register multiply(Register a, Register b) { return _mm512_mul_ps(a, b); }
  static Register multiply_add(Register a, Register b, Register c) {
    return _mm512_fmadd_ps(a, b, c);
  }
  static Register larger(Register a, Register b) { return _mm512_max_ps(a, b); }
  static Register round(Register x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Register times_power(Register x, Register n) { return _mm512_scalef_ps(x, n); }
  static Register zero_below(Register x, float floor, Register y) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, set(floor), _CMP_NLT_UQ), y);
  }
  static float sum_of_lanes(Register x) { return _mm512_reduce_add_ps(x); }
  static float largest_lane(Register x) { return _mm512_reduce_max_ps(x); }

  static void store_sums(Register a, Register b, Register c, Register d, float* out) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512 sums =
        _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
    const __m256 half =
        _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }
};

struct FloatMath {
  using Vec = Vec16;
  using Operand = __m512;
  static constexpr int64_t kUnit = Vec16::kLanes;
  static constexpr Copies kCopies = Copies::kPartUnits;
  static constexpr int kScoreHeads = 4;
  static constexpr int kValueHeads = 8;
  static constexpr int kSums = 24;
  static constexpr int kWeightKeys = 1;
  static constexpr int64_t kWeightBytes = 4;
  static constexpr int kUnitSums = 1;

  static void copy(const std::byte* vector, int64_t head_dim, std::byte* out) {
    for (int64_t i = 0; i < head_dim; i += kUnit) {
      _mm512_storeu_ps(out + 4 * i,
                       _mm512_maskz_loadu_ps(Vec16::first(head_dim - i), vector + 4 * i));
    }
  }
  static void store_query(const float* values, int64_t n, std::byte* out) {
    _mm512_storeu_ps(out, Vec16::load_first(values, n));
  }
  static Operand load_query(const std::byte* at) { return _mm512_loadu_ps(at); }
  static Operand load_key(const std::byte* row, int64_t unit) {
    return _mm512_loadu_ps(row + unit * 64);
  }
  static Operand load_value(const std::byte* const* rows, int64_t unit, int) {
    return load_key(rows[0], unit);
  }
  static __m512 store_weights(__m512 p, const float*, std::byte* out) {
    _mm512_storeu_ps(out, p);
    return p;
  }
  static Operand broadcast(const std::byte* weight) {
    return _mm512_set1_ps(*reinterpret_cast<const float*>(weight));
  }
  static __m512 multiply_add(Operand a, Operand b, __m512 sum) {
    return _mm512_fmadd_ps(a, b, sum);
  }
};

/// Pairs of bf16: twice the products of f32 for each instruction, and as many instructions a cycle
/// (one, Zen 4). An int8's scale goes into its score or weight.
template <KvType kType>
struct PairMath {
  using Vec = Vec16;
  using Operand = __m512bh;
  static constexpr int64_t kUnit = 32;
  static constexpr Copies kCopies = kType == KvType::kInt8 ? Copies::kAlways : Copies::kPartUnits;
  static constexpr int kScoreHeads = 4;
  static constexpr int kValueHeads = 8;
  static constexpr int kSums = 24;
  static constexpr int kWeightKeys = 2;
  static constexpr int64_t kWeightBytes = 2;
  static constexpr int kUnitSums = 2;

  static void copy(const std::byte* vector, int64_t head_dim, std::byte* out) {
    const int64_t whole = head_dim / kUnit * kUnit;
    for (int64_t i = 0; i < whole; i += kUnit, out += 64) {
      copy_unit(vector, i, ~__mmask32{0}, out);
    }
    if (whole != head_dim) {
      copy_unit(vector, whole, (__mmask32{1} << (head_dim - whole)) - 1, out);
    }
  }
  static void store_query(const float* values, int64_t n, std::byte* out) {
    const __m512 low = Vec16::load_first(values, n);
    const __m512 high = n > 16 ? Vec16::load_first(values + 16, n - 16) : _mm512_setzero_ps();
    _mm512_storeu_si512(out, (__m512i)_mm512_cvtne2ps_pbh(high, low));
  }
  static Operand load_query(const std::byte* at) { return (Operand)_mm512_loadu_si512(at); }
  static Operand load_key(const std::byte* row, int64_t unit) {
    return load_query(row + unit * 64);
  }
  /// Two keys' elements side by side, dimension by dimension, so that one instruction weighs both.
  static Operand load_value(const std::byte* const* rows, int64_t unit, int part) {
    alignas(64) static constexpr uint16_t kFirst[32] = {0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,
                                                        37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42,
                                                        11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i a = _mm512_loadu_si512(rows[0] + unit * 64),
                  b = _mm512_loadu_si512(rows[1] + unit * 64);
    const __m512i first = _mm512_load_si512(kFirst);
    const __m512i order = part == 0 ? first : _mm512_add_epi16(first, _mm512_set1_epi16(16));
    return (Operand)_mm512_permutex2var_epi16(a, order, b);
  }
  static __m512 store_weights(__m512 p, const float* scales, std::byte* out) {
    const __m512 scale = scales == nullptr ? _mm512_set1_ps(1) : _mm512_loadu_ps(scales);
    const __m256i rounded = (__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(p, scale));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), rounded);
    const __m512 weights =
        _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16));
    return scales == nullptr ? weights : _mm512_div_ps(weights, scale);
  }
  static Operand broadcast(const std::byte* weights) {
    int32_t pair;
    __builtin_memcpy(&pair, weights, sizeof pair);
    return (Operand)_mm512_set1_epi32(pair);
  }
  static __m512 multiply_add(Operand a, Operand b, __m512 sum) {
    return _mm512_dpbf16_ps(sum, a, b);
  }

 private:
  static void copy_unit(const std::byte* vector, int64_t first, __mmask32 mask, std::byte* out) {
    if constexpr (kType == KvType::kBF16) {
      _mm512_storeu_si512(out, _mm512_maskz_loadu_epi16(mask, vector + 2 * first));
    } else {
      const __m256i bytes = _mm256_maskz_loadu_epi8(mask, vector + first);
      const __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(bytes)));
      const __m512 high =
          _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(bytes, 1)));
      _mm512_storeu_si512(out, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
  }
};

template <KvType kType>
struct MathOf : PairMath<kType> {};
template <>
struct MathOf<KvType::kF32> : FloatMath {};

}  // namespace

const AttendKernels kAttendAvx512 = {attend<MathOf>, merge<Vec16>, finish<Vec16>};

}  // namespace ssa::cpu
