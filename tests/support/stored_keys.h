// What tests of kernels over stored keys share.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "kv/kv_format.h"

namespace ssa::cpu {

inline constexpr KvType kTypes[] = {KvType::kF32, KvType::kBF16, KvType::kInt8};
inline constexpr int64_t kHeadDims[] = {8, 32, 40, 64, 80, 96, 128, 256, 512};

/// Normal, and the same for the same seed.
inline std::vector<float> random_numbers(int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(n);
  for (float& number : numbers) {
    number = normal(random);
  }
  return numbers;
}

}  // namespace ssa::cpu
