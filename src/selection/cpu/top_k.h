// The best k of many scores.
#pragma once

#include <cstdint>

#include "base/cpu_features.h"

namespace ssa::cpu {

struct TopKKernels {
  /// Sets bit i of `bits` ([ceil(n / 64)] words, others are left as they are) for the k best of n
  /// scores: the higher wins, then the lower index; NaN is never kept and uses up no place; -0
  /// equals 0. Keeps all that are numbers where they are at most k. n < 2^31. scratch: [n + 64]
  /// floats, may be left in any state.
  void (*top_k)(const float* scores, int64_t n, int64_t k, uint64_t* bits, float* scratch);
};

const TopKKernels& top_k_kernels(InstructionSet set);

}  // namespace ssa::cpu
