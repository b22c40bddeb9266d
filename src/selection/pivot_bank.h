// What queries are scored against: one row a chunk and key/value head, for every level.
#pragma once

#include <torch/types.h>

#include <memory>
#include <span>
#include <vector>

#include "selection/select.h"

namespace ssa {

using torch::Tensor;

/// Where the pivots of a sequence's chunks come from, or of several sequences' side by side: index
/// tensors, made once for all layers. Immutable.
class PivotIndex {
 public:
  /// Sequences may differ in their chunks; their layouts have as many levels. Views are not kept.
  PivotIndex(std::span<const ChunkView> views, Pivot pivot, torch::Device device);

  int64_t n_sequences() const { return n_sequences_; }

 private:
  friend class PivotBank;
  struct Level {
    int64_t n_gists = 0;  // of the sequence that has most
    Tensor keys = {};     // [n_sequences, n_gists * longest] key indices; of recent and random none
    Tensor count = {};    // of mean: [n_sequences, n_gists, 1] tokens of each
    Tensor ordinals = {};  // of recent and random: [n_gists] float64 scores
    Tensor missing = {};   // [n_sequences, n_gists] bool; undefined where all have as many
  };
  static Level index_level(std::span<const ChunkView> views, Pivot pivot, int level);

  Pivot pivot_;
  int64_t n_sequences_;
  std::vector<Level> levels_;
};

/// The pivots of one layer's keys. Kept in float32, or float64 for float64 keys, on their device.
/// Immutable.
class PivotBank {
 public:
  /// keys: [n_kv_heads, n_keys, head_dim], rotated. At a level above 0, mean and quest cover all
  /// raw tokens below.
  PivotBank(const ChunkView& view, Pivot pivot, const Tensor& keys);
  /// keys: [n_sequences * n_kv_heads, n_keys, head_dim], on the index's device; below, sequences'
  /// heads are so many heads. Gists that a sequence lacks score NaN.
  PivotBank(std::shared_ptr<const PivotIndex> index, const Tensor& keys);

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
  Level build_level(const PivotIndex::Level& from, const Tensor& keys) const;
  Tensor score_level(const Tensor& q, const Level& level) const;

  std::shared_ptr<const PivotIndex> index_;
  int64_t n_kv_heads_;
  std::vector<Level> levels_;
};

}  // namespace ssa
