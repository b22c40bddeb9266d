// Vectors of as many floats as the instruction set of the including file holds in a register.
//
// One text serves every instruction set, in the compiler's own vector types; everything is in an
// unnamed namespace, so that each file that includes it keeps its own code (see
// cmake/AddKernels.cmake). For kernels: files of cpu/ folders.
#pragma once

#include <cstdint>
#include <cstring>

namespace ssa::cpu {
namespace {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

using Floats [[gnu::vector_size(4 * kLanes)]] = float;
using Ints [[gnu::vector_size(4 * kLanes)]] = int32_t;

inline Floats load(const float* from) {
  Floats values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

inline void store(Floats values, float* to) {
  std::memcpy(to, &values, sizeof values);
}

inline float sum_of(Floats values) {
  float sum = 0;
  for (int i = 0; i < kLanes; ++i) {
    sum += values[i];
  }
  return sum;
}

}  // namespace
}  // namespace ssa::cpu
