// What queries are scored against: one row a chunk and key/value head, for every level.
#pragma once

#include <torch/torch.h>

#include <vector>

#include "selection/select.h"

namespace ssa {

using torch::Tensor;

/// The pivots of one layer's keys. Kept in float32, or float64 for float64 keys, on their device.
/// Immutable.
class PivotBank {
 public:
  /// keys: [n_kv_heads, n_keys, head_dim], rotated. At a level above 0, mean and quest cover all
  /// raw tokens below.
  PivotBank(const ChunkView& view, Pivot pivot, const Tensor& keys);

  /// Unscaled scores of each level: [n_queries, n_heads, n_gists(level)], float64, contiguous, on
  /// the CPU.
  std::vector<Tensor> scores(const Tensor& q) const;  // [n_queries, n_heads, head_dim]
  /// The same where the keys are, in the type they are kept in: [n_kv_heads, n_queries, group_size,
  /// n_gists(level)].
  std::vector<Tensor> grouped_scores(const Tensor& q) const;

 private:
  struct Level {
    Tensor rows;  // [n_kv_heads, n_gists, head_dim]: keys, means, or quest's maxima; [n_gists] for
                  // recent and random
    Tensor low;   // quest's minima, else undefined
  };
  static Level build_level(const ChunkView& view, Pivot pivot, const Tensor& keys, int level);
  Tensor score_level(const Tensor& q, const Level& level) const;

  Pivot pivot_;
  int64_t n_kv_heads_;
  std::vector<Level> levels_;
};

}  // namespace ssa
