// attend for any processor: vectors of four floats, as the compiler translates them.
#include <cmath>

#include "attention/cpu/attend_rows.h"
#include "attention/cpu/attend_tables.h"

namespace ssa::cpu {
namespace {

struct Vec4 {
  typedef float Register __attribute__((vector_size(16)));
  typedef int32_t Integers __attribute__((vector_size(16)));
  static constexpr int64_t kLanes = 4;

  static Register set(float value) { return Register{} + value; }
  static Register load(const float* at) {
    Register x;
    __builtin_memcpy(&x, at, sizeof x);
    return x;
  }
  static void store(float* at, Register x) { __builtin_memcpy(at, &x, sizeof x); }
  // head_dim is a multiple of 8: there is no part of a register.
  static Register load_first(const float* at, int64_t) { return load(at); }
  static void store_first(float* at, int64_t, Register x) { store(at, x); }
  static Register add(Register a, Register b) { return a + b; }
  static Register subtract(Register a, Register b) { return a - b; }
  static Register multiply(Register a, Register b) { return a * b; }
  static Register multiply_add(Register a, Register b, Register c) { return a * b + c; }
  static Register larger(Register a, Register b) { return a > b ? a : b; }
  /// For magnitudes below 2^22: adding 1.5 * 2^23 leaves no bits for the fraction.
  static Register round(Register x) { return (x + 12582912.0F) - 12582912.0F; }
  static Register times_power(Register x, Register n) {
    const Integers bits = __builtin_convertvector(n, Integers) << 23;
    return reinterpret_cast<Register>(reinterpret_cast<Integers>(x) + bits);
  }
  static Register zero_below(Register x, float floor, Register y) { return x < floor ? Register{} : y; }
  static float sum_of_lanes(Register x) { return (x[0] + x[1]) + (x[2] + x[3]); }
  static float largest_lane(Register x) {
    const float a = x[0] > x[1] ? x[0] : x[1], b = x[2] > x[3] ? x[2] : x[3];
    return a > b ? a : b;
  }
  static void store_sums(Register a, Register b, Register c, Register d, float* out) {
    store(out, Register{sum_of_lanes(a), sum_of_lanes(b), sum_of_lanes(c), sum_of_lanes(d)});
  }
};

struct PortableMath {
  using Vec = Vec4;
  using Operand = Vec4::Register;
  static constexpr KvType kStored = KvType::kF32;
  static constexpr int64_t kElementBytes = 4;
  static constexpr int64_t kUnit = Vec4::kLanes;
  static constexpr int64_t kBlockKeys = 32;
  static constexpr int kScoreHeads = 2;
  static constexpr int kValueHeads = 3;
  static constexpr int kSums = 12;
  static constexpr int kWeightKeys = 1;
  static constexpr int kUnitSums = 1;

  static Operand load(const std::byte* at) {
    Operand x;
    __builtin_memcpy(&x, at, sizeof x);
    return x;
  }
  static Operand broadcast(const std::byte* weight) {
    float value;
    __builtin_memcpy(&value, weight, sizeof value);
    return Vec4::set(value);
  }
  static void load_values(const std::byte* const* rows, int64_t offset, Operand* out) { out[0] = load(rows[0] + offset); }
  static Operand multiply_add(Operand a, Operand b, Operand sum) { return a * b + sum; }
  static Operand store_weights(Operand p, const float* scales, std::byte* out) {
    const Operand weights = scales == nullptr ? p : p * Vec4::load(scales);
    __builtin_memcpy(out, &weights, sizeof weights);
    return p;
  }
  static void store_element(const float* values, int64_t, std::byte* out) { __builtin_memcpy(out, values, sizeof(Operand)); }
  template <KvType kType>
  static void widen(const std::byte* vector, int64_t head_dim, std::byte* out) {
    for (int64_t i = 0; i < head_dim; ++i) {
      float value = 0;
      if constexpr (kType == KvType::kBF16) {
        uint16_t bits;
        __builtin_memcpy(&bits, vector + 2 * i, sizeof bits);
        value = __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
      } else if constexpr (kType == KvType::kInt8) {
        value = static_cast<float>(static_cast<int8_t>(vector[i]));
      }
      __builtin_memcpy(out + 4 * i, &value, sizeof value);
    }
  }
};

void attend(const HeadShape& shape,
            const float* q,
            float scale,
            std::span<const KvRun> runs,
            std::span<const ScoredValue> scored,
            const SoftmaxState& state) {
  switch (shape.type) {
    case KvType::kF32:
      return attend_as<PortableMath, KvType::kF32>(shape, q, scale, runs, scored, state);
    case KvType::kBF16:
      return attend_as<PortableMath, KvType::kBF16>(shape, q, scale, runs, scored, state);
    case KvType::kInt8:
      return attend_as<PortableMath, KvType::kInt8>(shape, q, scale, runs, scored, state);
  }
}

}  // namespace

const AttendKernels kAttendPortable = {attend, merge<Vec4>, finish<Vec4>};

}  // namespace ssa::cpu
