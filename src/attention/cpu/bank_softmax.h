// A row's scores of one block of keys become its weights, under a running softmax in base 2.
//
// Lane is 16 floats of an instruction set: load, store, set, add, subtract, multiply,
// multiply_add(a, b, c) = a * b + c, larger(a, b) (b where one is NaN), first(x, n) (-infinity
// behind the first n, which may be any number), any_above(x, value), largest_of(x), whole(x)
// (rounded), times_power(x, n) (x * 2^n for whole n >= kLeast; 0 there).
#pragma once

#include <cstdint>

namespace ssa::cpu {
namespace {

inline constexpr int64_t kBlockKeys = 64;
inline constexpr int64_t kSumLanes = 16;
inline constexpr int kBlockLanes = kBlockKeys / kSumLanes;

/// A row's running softmax while it is at work. The sum is kept in lanes: added up once, at the
/// end.
struct RowSoftmax {
  float largest;
  float factor;  // what sums built so far must be multiplied by: 2^(the largest before - the
                 // largest now)
  alignas(64) float sums[kSumLanes];
};

/// 2^x for x <= 0, relative error 2e-7; 0 from kLeast on.
template <class Lane>
typename Lane::Register power_of_2(typename Lane::Register x) {
  // The polynomial that meets 2^f, and 1 at f = 0, with the least relative error, 9e-8, for f in
  // [-0.5, 0.5].
  constexpr float kCoefficients[] = {
      0.00132647285F, 0.00967151299F, 0.0555073358F, 0.240222424F, 0.693147004F, 1.0F};
  const auto clamped = Lane::larger(Lane::set(Lane::kLeast), x);
  const auto whole = Lane::whole(clamped);
  const auto fraction = Lane::subtract(clamped, whole);
  auto power = Lane::set(kCoefficients[0]);
#pragma GCC unroll 8
  for (int i = 1; i < 6; ++i) {
    power = Lane::multiply_add(power, fraction, Lane::set(kCoefficients[i]));
  }
  return Lane::times_power(power, whole);
}

/// The row's largest score becomes `largest`, which is above the one before.
template <class Lane>
void raise_largest(RowSoftmax& row, float largest) {
  float factors[kSumLanes];
  Lane::store(factors, power_of_2<Lane>(Lane::set(row.largest - largest)));
  row.factor = factors[0];
  row.largest = largest;
}

/// scores: [kBlockKeys] q . k, of which the first n_visible count. weights: 2^(score * scale -
/// largest), 0 behind.
template <class Lane>
[[gnu::always_inline]] inline void weigh_block(const float* scores,
                                               const float* scales,
                                               int64_t n_visible,
                                               RowSoftmax& row,
                                               typename Lane::Register (&weights)[kBlockLanes]) {
  static_assert(kBlockLanes == 4);
#pragma GCC unroll 4
  for (int i = 0; i < kBlockLanes; ++i) {
    const int64_t at = i * kSumLanes;
    weights[i] = Lane::multiply(Lane::load(scores + at), Lane::load(scales + at));
  }
  if (n_visible < kBlockKeys) {
#pragma GCC unroll 4
    for (int i = 0; i < kBlockLanes; ++i) {
      weights[i] = Lane::first(weights[i], n_visible - i * kSumLanes);
    }
  }
  const auto largest =
      Lane::larger(Lane::larger(weights[0], weights[1]), Lane::larger(weights[2], weights[3]));
  row.factor = 1;
  if (Lane::any_above(largest, row.largest)) {  // rare after a few blocks
    raise_largest<Lane>(row, Lane::largest_of(largest));
  }
  // 0 where no score was finite yet, so that -infinity is never subtracted from itself.
  const auto reference = Lane::set(row.largest == -__builtin_inff() ? 0 : row.largest);
#pragma GCC unroll 4
  for (int i = 0; i < kBlockLanes; ++i) {
    weights[i] = power_of_2<Lane>(Lane::subtract(weights[i], reference));
  }
  const auto sum = Lane::add(Lane::add(weights[0], weights[1]), Lane::add(weights[2], weights[3]));
  Lane::store(row.sums, Lane::multiply_add(Lane::load(row.sums), Lane::set(row.factor), sum));
}

}  // namespace
}  // namespace ssa::cpu
