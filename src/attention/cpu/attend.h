// Softmax attention of one token's heads over chosen rows, on the CPU: decode, and suffix queries
// one by one.
//
// Nothing here knows how rows were chosen: dense decode is one list that names everything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/cpu_features.h"
#include "kv/kv_format.h"

namespace ssa::cpu {

/// One key/value head and the query heads that share it.
struct HeadShape {
  KvType type = KvType::kBF16;
  int64_t head_dim = 0;    // a multiple of 8, at most 512
  int64_t group_size = 0;  // query heads, at most 64
};

/// Keys and values of consecutive tokens. Strides in bytes: row_bytes for both where they are rows
/// of raw tokens.
struct KvRun {
  const std::byte* keys = nullptr;
  const std::byte* values = nullptr;
  int64_t n_tokens = 0;
  int64_t key_stride = 0;
  int64_t value_stride = 0;
};

/// A value whose scores are known already: a kept gist, scored when the bank was scanned.
struct ScoredValue {
  const std::byte* value = nullptr;  // a vector
  const float* scores = nullptr;     // q . k of head h at scores[h * score_stride], unscaled
  int64_t score_stride = 1;
};

/// A running softmax of group_size heads; several over disjoint keys merge into one. Each head: the
/// largest score times scale * log2(e), the sum of 2^(score - largest), and the weighted sum of
/// values. Buffers are the caller's.
struct SoftmaxState {
  float* largest = nullptr;  // [group_size], starts at -infinity
  float* sum = nullptr;      // [group_size], starts at 0
  float* out = nullptr;      // [group_size, head_dim], starts at 0
};

/// Functions of one instruction set. All are safe from many threads; none allocates.
struct AttendKernels {
  /// Folds the runs and the scored values into the state. q: [group_size, head_dim] f32; where keys
  /// are bf16 or int8 it may be rounded to bf16. scale is at least 0. Runs are prefetched ahead, so
  /// that they may lie anywhere.
  void (*attend)(const HeadShape& shape,
                 const float* q,
                 float scale,
                 std::span<const KvRun> runs,
                 std::span<const ScoredValue> scored,
                 const SoftmaxState& state);
  /// a takes b in. a and b do not overlap.
  void (*merge)(const HeadShape& shape, const SoftmaxState& b, const SoftmaxState& a);
  /// out / sum, 0 where nothing was attended: [group_size, head_dim] f32.
  void (*finish)(const HeadShape& shape, const SoftmaxState& state, float* out);
};

const AttendKernels& attend_kernels(InstructionSet set);

}  // namespace ssa::cpu
