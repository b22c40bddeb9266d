// From scores of blocks to their importance: each head's softmax, and its sum over a group's heads.
#pragma once

#include <cstdint>

#include "base/cpu_features.h"

namespace ssa::cpu {

/// Functions of one instruction set. All are safe from many threads; none allocates. A number that
/// comes out depends on its own place's scores and on the row's largest and sum, not on where it
/// stands: equal scores give equal importance. Rows are whole groups of 16 floats in memory,
/// whatever n is. Scores that are not finite: selection/block_selection.h says what they come to.
struct ShareKernels {
  /// The largest of n scores, NaN passed over; -infinity where no number is. Scores from n up to
  /// the next multiple of 16 become -infinity.
  float (*largest)(float* scores, int64_t n);
  /// Scores become weights, 2^64 e^((score - largest) * scale), so that what a division by the sum
  /// leaves of small ones is what float32 can hold; NaN stays. `largest`: of the whole row, of
  /// which these n may be a part; scale is at least 0. Returns the sum of the weights that are
  /// numbers.
  float (*weigh)(float* scores, int64_t n, float largest, float scale);
  /// importance[i] = sum over rows of weights[row * stride + i] * factors[row], in their order; NaN
  /// where one is NaN. Writes up to the next multiple of 16.
  void (*add_rows)(const float* weights,
                   int64_t stride,
                   int64_t n_rows,
                   const float* factors,
                   int64_t n,
                   float* importance);
};

const ShareKernels& share_kernels(InstructionSet set);

/// The tables it chooses from, each in a file of its own.
extern const ShareKernels kPortableShareKernels;
extern const ShareKernels kAvx2ShareKernels;
extern const ShareKernels kAvx512ShareKernels;

}  // namespace ssa::cpu
