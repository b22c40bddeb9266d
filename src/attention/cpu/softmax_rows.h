// Running softmax over rows of scores, in vectors of floats; see SoftmaxState. For files of one
// instruction set only: all of it is in an unnamed namespace, so that each file keeps its own,
// compiled with its own flags.
//
// Vec describes a register of kLanes floats: Register, load, store, load_first and store_first (the
// first n lanes), set (one value in all), add, multiply, multiply_add(a, b, c) = a * b + c, larger
// (b where a is NaN or b is), round, times_power(x, n) = x * 2^n, zero_below(x, floor, y) = x <
// floor ? 0 : y, sum_of_lanes, largest_lane, and store_sums(a, b, c, d, out): the sums of lanes of
// four registers.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "attention/cpu/attend.h"

namespace ssa::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// 2^x for x <= 0, within 1.5 units in the last place; 0 below 2^-125, NaN for NaN.
template <class Vec>
typename Vec::Register exp2_of(typename Vec::Register x) {
  constexpr float kFloor = -125.0F;  // a smaller power could not be built from exponent bits
  // Interpolation of 2^f at the Chebyshev points of [-0.5, 0.5]; relative error 2e-8.
  constexpr float kCoefficients[] = {1.54614449e-4F,
                                     1.3400428e-3F,
                                     9.61805694e-3F,
                                     5.55032715e-2F,
                                     0.240226507F,
                                     0.693147182F,
                                     1.0F};
  const auto clamped = Vec::larger(Vec::set(kFloor), x);
  const auto whole = Vec::round(clamped);
  const auto fraction = Vec::multiply_add(whole, Vec::set(-1.0F), clamped);
  auto power = Vec::set(kCoefficients[0]);
#pragma GCC unroll 8
  for (int i = 1; i < 7; ++i) {
    power = Vec::multiply_add(power, fraction, Vec::set(kCoefficients[i]));
  }
  return Vec::zero_below(x, kFloor, Vec::times_power(power, whole));
}

template <class Vec>
float exp2_of(float x) {
  float powers[Vec::kLanes];
  Vec::store(powers, exp2_of<Vec>(Vec::set(x)));
  return powers[0];
}

/// to = to * factor + from * from_factor
template <class Vec>
void scale_and_add(float* to, float factor, const float* from, float from_factor, int64_t n) {
  const auto scale = Vec::set(factor), from_scale = Vec::set(from_factor);
  for (int64_t i = 0; i < n; i += Vec::kLanes) {
    const int64_t left = n - i;
    const auto sum = Vec::multiply_add(Vec::load_first(from + i, left),
                                       from_scale,
                                       Vec::multiply(Vec::load_first(to + i, left), scale));
    Vec::store_first(to + i, left, sum);
  }
}

/// to = from * factor
template <class Vec>
void scale_to(float* to, const float* from, float factor, int64_t n) {
  const auto scale = Vec::set(factor);
  for (int64_t i = 0; i < n; i += Vec::kLanes) {
    Vec::store_first(to + i, n - i, Vec::multiply(Vec::load_first(from + i, n - i), scale));
  }
}

/// What a sum built with `largest` counts for once `new_largest` >= `largest` is the reference.
template <class Vec>
float weight_under(float largest, float new_largest) {
  return largest == -kInfinity ? 0.0F : exp2_of<Vec>(largest - new_largest);
}

/// Scores are compared with `new_largest` from now on.
template <class Vec>
void raise_largest(const SoftmaxState& state, int64_t head, int64_t head_dim, float new_largest) {
  const float factor = weight_under<Vec>(state.largest[head], new_largest);
  state.largest[head] = new_largest;
  if (state.sum[head] != 0) {
    state.sum[head] *= factor;
    scale_to<Vec>(state.out + head * head_dim, state.out + head * head_dim, factor, head_dim);
  }
}

template <class Vec>
void merge(const HeadShape& shape, const SoftmaxState& b, const SoftmaxState& a) {
  for (int64_t h = 0; h < shape.group_size; ++h) {
    const float largest = a.largest[h] > b.largest[h] ? a.largest[h] : b.largest[h];
    const float factor_a = weight_under<Vec>(a.largest[h], largest);
    const float factor_b = weight_under<Vec>(b.largest[h], largest);
    a.largest[h] = largest;
    a.sum[h] = a.sum[h] * factor_a + b.sum[h] * factor_b;
    scale_and_add<Vec>(
        a.out + h * shape.head_dim, factor_a, b.out + h * shape.head_dim, factor_b, shape.head_dim);
  }
}

template <class Vec>
void finish(const HeadShape& shape, const SoftmaxState& state, float* out) {
  for (int64_t h = 0; h < shape.group_size; ++h) {
    const float factor = state.sum[h] == 0 ? 0.0F : 1.0F / state.sum[h];
    scale_to<Vec>(out + h * shape.head_dim, state.out + h * shape.head_dim, factor, shape.head_dim);
  }
}

}  // namespace
}  // namespace ssa::cpu
