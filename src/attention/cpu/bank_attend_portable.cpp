#include "attention/cpu/bank_attend_tables.h"
#include "attention/cpu/bank_engine_f32.h"
#include "selection/cpu/tile_math_portable.h"

namespace ssa::cpu {
namespace {

struct PortableLane {
  using Register = PortableF32::Sum;
  static constexpr float kLeast = -127;
  static constexpr int kParts = PortableF32::kParts;

  template <class Function>
  static Register each(const Function& function) {
    Register result;
    for (int i = 0; i < kParts; ++i) {
      result.part[i] = function(i);
    }
    return result;
  }

  static Register load(const float* at) {
    return PortableF32::load(reinterpret_cast<const std::byte*>(at));
  }
  static void store(float* at, Register x) { PortableF32::finish(x, nullptr, 1, at); }
  static Register set(float value) {
    return each([&](int) { return Floats{value, value, value, value}; });
  }
  static Register add(Register a, Register b) {
    return each([&](int i) { return a.part[i] + b.part[i]; });
  }
  static Register subtract(Register a, Register b) {
    return each([&](int i) { return a.part[i] - b.part[i]; });
  }
  static Register multiply(Register a, Register b) {
    return each([&](int i) { return a.part[i] * b.part[i]; });
  }
  static Register multiply_add(Register a, Register b, Register c) {
    return each([&](int i) { return a.part[i] * b.part[i] + c.part[i]; });
  }
  static Register larger(Register a, Register b) {
    return each([&](int i) { return a.part[i] > b.part[i] ? a.part[i] : b.part[i]; });
  }
  static Register first(Register x, int64_t n) {
    return each([&](int i) {
      const auto left = static_cast<int32_t>(n - 4 * i);
      const Floats nothing = set(-__builtin_inff()).part[0];
      return Integers{0, 1, 2, 3} < left ? x.part[i] : nothing;
    });
  }
  static float largest_of(Register x) {
    float lanes[kSumLanes], largest = -__builtin_inff();
    store(lanes, x);
    for (const float lane : lanes) {
      largest = lane > largest ? lane : largest;
    }
    return largest;
  }
  static bool any_above(Register x, float value) { return largest_of(x) > value; }
  static Register whole(Register x) {
    constexpr float kRound = 0x1.8p23F;  // beyond it, floats are whole numbers
    return each([&](int i) { return (x.part[i] + kRound) - kRound; });
  }
  static Register times_power(Register x, Register n) {
    return each([&](int i) {
      const Integers exponent = __builtin_convertvector(n.part[i], Integers) + 127;
      return x.part[i] * reinterpret_cast<Floats>(exponent << 23);
    });
  }
};

}  // namespace

const BankAttendKernels kPortableBankAttendKernels = {
    attend_groups<EngineF32<PortableF32, PortableLane, 2, 1>>};

}  // namespace ssa::cpu
