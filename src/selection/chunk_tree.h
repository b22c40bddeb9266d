// Chunks that score best, for several prompts at once and rows with budgets of their own:
// unfold_mask.h's choice, also where how many a row keeps is known to the device alone.
#pragma once

#include <torch/types.h>

#include <span>
#include <vector>

#include "selection/select.h"

namespace ssa {

using torch::Tensor;

/// Layouts of prompts side by side as index tensors, padded to the one with most chunks: gists that
/// a prompt lacks score NaN. Heads of all prompts are heads, prompt by prompt. Immutable.
class ChunkTree {
 public:
  /// n_keys: of the longest prefix.
  ChunkTree(std::span<const ChunkView> views,
            int64_t n_keys,
            int64_t n_kv_heads,
            torch::Device device);

  /// Scores by level, [n_heads, n_rows, group_size, n_gists(level)], and the places they give the
  /// gists of the highest level.
  struct Ranked {
    std::vector<Tensor> scores;
    Tensor top;
  };
  Ranked rank(std::vector<Tensor> scores) const;

  /// Which gists of all levels, one level behind the other, are kept by some head of the group:
  /// [n_heads, n_rows, n_gists] bool. top_k: by level, [n_prompts, n_rows]. Ties go to the lower
  /// ordinal; NaN is never kept.
  Tensor kept(const Ranked& ranked, const std::vector<Tensor>& top_k) const;

  /// The same of scores that nobody ranked, where the host knows how many places there are at most,
  /// by level: several times as fast.
  Tensor kept(const std::vector<Tensor>& scores,
              const std::vector<Tensor>& top_k,
              std::span<const int64_t> largest_top_k) const;

  /// Keys that kept gists bring in: [n_heads, n_rows, n_keys] bool.
  Tensor keys(const Tensor& kept) const;
  /// How many keys each gist brings in that `always`, [n_prompts, n, n_keys] bool, does not show:
  /// [n_prompts, n, n_gists] float32.
  Tensor added_keys(const Tensor& always) const;

  size_t n_levels() const { return parents_.size(); }

 private:
  /// Gists that compete at a level: [n_heads, n_rows, choosers, n] bool. above: kept one level up,
  /// undefined at the highest.
  Tensor competing(size_t level, const Tensor& scores, const Tensor& above) const;
  /// x [n_prompts, n] for rows of heads: [n_heads, dim.., n], as gather() takes it.
  Tensor for_rows(const Tensor& x, at::IntArrayRef sizes) const;

  int64_t n_kv_heads_;
  int64_t n_gists_;
  std::vector<Tensor> parents_;  // by level: [n_prompts, n_gists(level)] ordinals one level up,
                                 // n_gists(level + 1) for none; of the highest level undefined
  Tensor column_of_key_;  // [n_prompts, n_keys]: the gist that brings it in; n_gists: none does
};

}  // namespace ssa
