// The suffixes of a training batch over what they unfold, many sequences in one call: selective
// fine-tuning's attention (arXiv 2604.20920; spec, section 6) with as many kernel launches as there
// are lengths, not sequences.
#pragma once

#include <torch/types.h>

#include <memory>
#include <span>
#include <vector>

#include "attention/attention.h"
#include "gist/mask.h"
#include "selection/chunk_tree.h"
#include "selection/pivot_bank.h"
#include "selection/select.h"

namespace ssa {

/// A sequence with gists and a suffix, and the row of the batch that it starts at. All of it is
/// prompt.
struct UnfoldedSequence {
  const GistLayout* layout = nullptr;
  int64_t first_row = 0;
};

/// Made once a batch, for all layers. Sequences of one number of levels and of like length stand
/// side by side, padded to the longest; their chunks are chosen and their queries attend together.
/// Sets are UnfoldMask's. Layouts must outlive it.
class SuffixUnfolding {
 public:
  /// Sequences of like length should be neighbours. Throws Error for selection by mass or by
  /// group-softmax.
  SuffixUnfolding(std::span<const UnfoldedSequence> sequences,
                  const MaskRule& rule,
                  const SelectionOptions& options,
                  int64_t n_kv_heads,
                  int64_t group_size,
                  torch::Device device);

  /// `out`, [n_rows, n_heads, head_dim], with the suffixes' rows replaced. Gradients flow to the
  /// keys and values that are attended, and to the queries; not through the choice.
  Tensor attend(const AttentionInput& in, const Tensor& out) const;

 private:
  /// Sequences side by side, as index tensors.
  struct Piece {
    int64_t n_sequences = 0, n_queries = 0, n_keys = 0;
    Tensor query_rows;          // [n_sequences * n_queries] rows of the batch; padding: 0
    Tensor key_rows;            // [n_sequences * n_keys]
    Tensor places;              // [all suffix rows of the piece] where they stand in query_rows
    Tensor rows;                // the same: rows of the batch
    Tensor always;              // [n_sequences, n_queries, n_keys] bool, whatever is chosen
    std::vector<Tensor> top_k;  // by level: [n_sequences, n_queries]
    std::vector<int64_t> largest_top_k;
    std::shared_ptr<const PivotIndex> pivots;
    std::unique_ptr<const ChunkTree> tree;
  };
  Piece make_piece(std::span<const UnfoldedSequence> sequences,
                   const MaskRule& rule,
                   torch::Device device) const;
  /// Keys attended: [n_sequences, n_kv_heads, n_queries, n_keys] bool.
  Tensor visible(const Piece& piece, const Tensor& q, const Tensor& k) const;

  SelectionOptions options_;
  int64_t n_kv_heads_, group_size_;
  std::vector<Piece> pieces_;
};

}  // namespace ssa
