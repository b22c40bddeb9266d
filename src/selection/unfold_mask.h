// What select_gists() and attended_keys() choose for one query, for all queries of a suffix at
// once, on any device: what selective fine-tuning and evaluation attend under.
#pragma once

#include <torch/types.h>

#include <span>
#include <vector>

#include "selection/pivot_bank.h"
#include "selection/select.h"

namespace ssa {

/// Which queries of a sequence unfold. Indices are those of the sequence (of its keys).
struct SuffixQueries {
  Range range;           // not before the prefix's end, consecutive
  int64_t n_prompt = 0;  // queries from this index on count as generated: N is their index + 1, and
                         // gists among the sinks are not attended (spec, section 6)
};

/// What each query attends whatever is chosen: [n_queries, n_keys] bool on the CPU, n_keys =
/// queries.range.end.
Tensor always_attended(const ChunkView& view, const MaskRule& rule, const SuffixQueries& queries);

/// One sequence's suffix. All that does not depend on a layer's queries and keys is computed once,
/// by the constructor; the methods are const, deterministic, record no gradients, and are safe from
/// many threads. Refers to the layout, which must outlive it.
///
/// Sets are equal to the reference's bit for bit as long as scores are: ties go to the lower
/// ordinal, NaN is never kept.
class UnfoldMask {
 public:
  /// The layout must describe the sequence up to queries.range.end at least. Throws Error for
  /// options that are not offered for whole suffixes: mass, and SelectBy::kGroupSoftmax.
  UnfoldMask(const ChunkView& view,
             const MaskRule& rule,
             const SelectionOptions& options,
             const SuffixQueries& queries,
             int64_t group_size,
             torch::Device device);

  /// Keys attended: [n_kv_heads, n_queries, n_keys] bool. q: [n_queries, n_heads, head_dim]; k:
  /// [n_kv_heads, n_keys, head_dim], n_keys = queries.range.end; both rotated, of one float dtype.
  Tensor attended(const Tensor& q, const Tensor& k) const;

  /// Gists kept, the union over each group's heads: [n_kv_heads, n_queries, n_gists(level)] bool, a
  /// tensor a level.
  /// `top_k`, [n_queries], takes the place of k at levels 0 and 1 where it is given; levels above
  /// then keep no fewer.
  std::vector<Tensor> kept(const Tensor& q,
                           const PivotBank& pivots,
                           std::span<const int64_t> top_k = {}) const;
  /// attended() from what is kept.
  Tensor attended(const std::vector<Tensor>& kept) const;

  /// Keys attended whatever is chosen: [n_queries, n_keys] bool.
  const Tensor& always() const { return always_; }
  const ChunkView& view() const { return view_; }
  Pivot pivot() const { return options_.pivot; }

 private:
  /// How many each query keeps of one level.
  struct TopK {
    Tensor of_query;  // [n_queries]
    int64_t largest = 1;
  };
  static TopK top_k_tensor(std::span<const int64_t> of_query, torch::Device device);
  std::vector<TopK> top_k_or(std::span<const int64_t> given, torch::Device device) const;
  std::vector<Tensor> kept_of_block(const Tensor& q,
                                    const PivotBank& pivots,
                                    const std::vector<TopK>& top_k,
                                    Range rows) const;

  ChunkView view_;
  SelectionOptions options_;
  Tensor always_;                // [n_queries, n_keys]
  Tensor chooser_;               // [n_keys]: column of the kept gists of all levels, one behind the
                                 // other, that brings a key in; one more column: none
  std::vector<Tensor> parents_;  // by level: [n_gists(level)] ordinals one level up, n_gists(level
                                 // + 1) for none; of the highest level undefined
  std::vector<TopK> top_k_;      // by level
};

/// For the last q.size(0) tokens of a layout whose gists are in the sequence, all of them prompt:
/// [n_kv_heads, n_queries, n_tokens] bool.
Tensor unfold_mask(const Tensor& q,  // [n_queries, n_heads, head_dim]
                   const Tensor& k,  // [n_kv_heads, n_tokens, head_dim]
                   const GistLayout& layout,
                   const MaskRule& rule,
                   const SelectionOptions& options);

}  // namespace ssa
