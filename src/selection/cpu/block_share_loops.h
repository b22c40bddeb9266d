// ShareKernels for the instruction set of the including file (see base/lanes.h).
#pragma once

#include <cstdint>

#include "base/lanes.h"
#include "selection/cpu/block_shares.h"

namespace ssa::cpu {
namespace {

inline constexpr int64_t kRowUnit = 16;
inline constexpr float kNoScore = -__builtin_inff();

/// ShareKernels::largest.
inline float largest(float* scores, int64_t n) {
  for (int64_t i = n; i % kRowUnit != 0; ++i) {
    scores[i] = kNoScore;
  }
  Floats lanes = Floats{} + kNoScore;
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats values = load(scores + i);
    lanes = values > lanes ? values : lanes;
  }
  float most = kNoScore;
  for (int lane = 0; lane < kLanes; ++lane) {
    most = lanes[lane] > most ? lanes[lane] : most;
  }
  return most;
}

/// 2^(x + 64) for x <= 0, within 1.5 units in the last place; at most 2^-125 below -189, NaN for
/// NaN.
inline Floats scaled_power(Floats x) {
  constexpr float kShift = 0x1.8p23F;  // what it pushes out of a float is the fraction
  constexpr int32_t kShiftBits = 0x4B400000;
  // Interpolation of 2^f at the Chebyshev points of [-0.5, 0.5]; relative error 2e-8.
  constexpr float kCoefficients[] = {
      1.3400428e-3F, 9.61805694e-3F, 5.55032715e-2F, 0.240226507F, 0.693147182F, 1.0F};
  const Floats least = Floats{} - 189.0F;
  x = x < least ? least : x;
  const Floats shifted = x + kShift;
  const Floats fraction = x - (shifted - kShift);
  Floats power = Floats{} + 1.54614449e-4F;
#pragma GCC unroll 6
  for (const float coefficient : kCoefficients) {
    power = power * fraction + coefficient;
  }
  const Ints exponent = reinterpret_cast<Ints>(shifted) - (kShiftBits - 64 - 127);
  return power * reinterpret_cast<Floats>(exponent << 23);
}

/// A row whose largest score is infinite: the scores equal to it share alike.
inline float weigh_infinite(float* scores, int64_t n, float largest) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const bool is_number = scores[i] == scores[i];
    const float weight = scores[i] == largest ? 1.0F : 0.0F;
    sum += weight;
    scores[i] = is_number ? weight : scores[i];
  }
  return sum;
}

/// ShareKernels::weigh.
inline float weigh(float* scores, int64_t n, float largest, float scale) {
  if (__builtin_isinf(largest)) {
    return weigh_infinite(scores, n, largest);
  }
  const float factor = scale * 1.44269504F;
  Floats sums{};
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats weights = scaled_power((load(scores + i) - largest) * factor);
    store(weights, scores + i);
    sums += weights == weights ? weights : Floats{};
  }
  return sum_of(sums);
}

/// kVectors vectors of places, all rows.
template <int kVectors>
void add_rows_at(
    const float* weights, int64_t stride, int64_t n_rows, const float* factors, float* importance) {
  Floats sums[kVectors] = {};
  for (int64_t row = 0; row < n_rows; ++row, weights += stride) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      sums[i] += load(weights + i * kLanes) * factors[row];
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) {
    store(sums[i], importance + i * kLanes);
  }
}

/// ShareKernels::add_rows.
inline void add_rows(const float* weights,
                     int64_t stride,
                     int64_t n_rows,
                     const float* factors,
                     int64_t n,
                     float* importance) {
  constexpr int kTogether = 4;
  int64_t i = 0;
  for (; i + kTogether * kLanes <= n; i += kTogether * kLanes) {
    add_rows_at<kTogether>(weights + i, stride, n_rows, factors, importance + i);
  }
  for (; i < n; i += kLanes) {
    add_rows_at<1>(weights + i, stride, n_rows, factors, importance + i);
  }
}

}  // namespace
}  // namespace ssa::cpu
