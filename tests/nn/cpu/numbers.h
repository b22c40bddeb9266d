// Numbers of the kernels' types, for tests.
#pragma once

#include <bit>
#include <cstdint>
#include <random>
#include <vector>

#include "nn/cpu/bf16.h"

namespace ssa::cpu {

/// One rounding, relative.
template <class T>
inline constexpr double kRounding = 0x1p-24;
template <>
inline constexpr double kRounding<BF16> = 0x1p-8;

inline float to_float(float number) {
  return number;
}
inline float to_float(BF16 number) {
  return std::bit_cast<float>(uint32_t{number.bits} << 16);
}

template <class T>
T from_float(float number);
template <>
inline float from_float(float number) {
  return number;
}
/// Cut, not rounded: any number will do.
template <>
inline BF16 from_float(float number) {
  return {static_cast<uint16_t>(std::bit_cast<uint32_t>(number) >> 16)};
}

template <class T>
std::vector<T> random_numbers(std::mt19937& random, int64_t n, float deviation = 1) {
  std::normal_distribution<float> normal(0, deviation);
  std::vector<T> numbers;
  for (int64_t i = 0; i < n; ++i) {
    numbers.push_back(from_float<T>(normal(random)));
  }
  return numbers;
}

}  // namespace ssa::cpu
