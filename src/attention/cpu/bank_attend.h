// Many queries over one bank of gists, on the CPU: the dense triangle of prefill under the gist
// mask.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention/cpu/attend.h"

namespace ssa::cpu {

/// A bank of one key/value head: keys in tiles, values as vectors.
struct BankView {
  const std::byte* key_tiles = nullptr;  // [ceil(n_gists / 16)] tiles
  const std::byte* values = nullptr;     // [n_gists] vectors
  int64_t n_gists = 0;
};

/// Rows are queries of one key/value head: tokens times the heads of the group, in any order.
struct BankAttendKernels {
  /// Row r attends gists [0, visible[r]) of the bank; its softmax state (see SoftmaxState, [n_rows]
  /// and [n_rows, head_dim]) takes them in. shape.group_size is not looked at.
  void (*attend)(
      const HeadShape& shape,
      const float* q,  // [n_rows, head_dim]
      int64_t n_rows,
      float scale,
      const BankView& bank,
      const int64_t* visible,  // [n_rows], at most n_gists, in any order; close values are fastest
      const SoftmaxState& state);
};

const BankAttendKernels& bank_attend_kernels(InstructionSet set);

}  // namespace ssa::cpu
