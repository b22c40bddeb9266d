// attend for any processor: vectors of four floats, as the compiler translates them.
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
  static Register zero_below(Register x, float floor, Register y) {
    return x < floor ? Register{} : y;
  }
  static float sum_of_lanes(Register x) { return (x[0] + x[1]) + (x[2] + x[3]); }
  static float largest_lane(Register x) {
    const float a = x[0] > x[1] ? x[0] : x[1], b = x[2] > x[3] ? x[2] : x[3];
    return a > b ? a : b;
  }
  static void store_sums(Register a, Register b, Register c, Register d, float* out) {
    store(out, Register{sum_of_lanes(a), sum_of_lanes(b), sum_of_lanes(c), sum_of_lanes(d)});
  }
};

/// Floats; other types are widened when they are loaded.
template <KvType kType>
struct PortableMath {
  using Vec = Vec4;
  using Operand = Vec4::Register;
  static constexpr int64_t kUnit = Vec4::kLanes;
  static constexpr Copies kCopies = Copies::kNever;
  static constexpr int kScoreHeads = 2;
  static constexpr int kValueHeads = 2;
  static constexpr int kSums = 8;
  static constexpr int kWeightKeys = 1;
  static constexpr int64_t kWeightBytes = 4;
  static constexpr int kUnitSums = 1;

  template <class Scalar>
  static Scalar loaded(const std::byte* at) {
    Scalar value;
    __builtin_memcpy(&value, at, sizeof value);
    return value;
  }
  static void store_query(const float* values, int64_t, std::byte* out) {
    __builtin_memcpy(out, values, sizeof(Operand));
  }
  static Operand load_query(const std::byte* at) { return loaded<Operand>(at); }
  static Operand load_key(const std::byte* row, int64_t unit) {
    const int64_t first = unit * kUnit;
    if constexpr (kType == KvType::kF32) {
      return loaded<Operand>(row + 4 * first);
    }
    Operand values;
    for (int64_t i = 0; i < kUnit; ++i) {
      if constexpr (kType == KvType::kBF16) {
        const auto bits = static_cast<uint32_t>(loaded<uint16_t>(row + 2 * (first + i))) << 16;
        values[i] = __builtin_bit_cast(float, bits);
      } else {
        values[i] = static_cast<float>(static_cast<int8_t>(row[first + i]));
      }
    }
    return values;
  }
  static Operand load_value(const std::byte* const* rows, int64_t unit, int) {
    return load_key(rows[0], unit);
  }
  static Operand store_weights(Operand p, const float* scales, std::byte* out) {
    const Operand weights = scales == nullptr ? p : p * Vec4::load(scales);
    __builtin_memcpy(out, &weights, sizeof weights);
    return p;
  }
  static Operand broadcast(const std::byte* weight) { return Vec4::set(loaded<float>(weight)); }
  static Operand multiply_add(Operand a, Operand b, Operand sum) { return a * b + sum; }
};

}  // namespace

const AttendKernels kAttendPortable = {attend<PortableMath>, merge<Vec4>, finish<Vec4>};

}  // namespace ssa::cpu
