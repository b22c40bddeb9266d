// Tokens of sequences of equal length by key/value head, for block-sparse attention, and the blocks
// that they choose. Used by block_sparse_attention.cpp and nsa_branches.cpp.
#pragma once

#include <torch/types.h>

#include "selection/block_options.h"

namespace ssa {

using torch::Tensor;

/// Folded: [n_batch, group, n_padded, head_dim] queries, [n_batch, 1, n_padded, head_dim] keys,
/// with zeros behind each sequence up to whole blocks, and on CUDA to sizes that its kernels like.
/// n_batch = n_sequences * n_kv_heads, heads of one sequence side by side.
struct BlockRows {
  int64_t n_sequences, n, n_kv_heads, group, block_size;
  int64_t unit, n_padded;  // n_padded: n rounded up to a multiple of unit, itself one of block_size

  BlockRows(int64_t n_sequences,
            int64_t n,
            int64_t n_kv_heads,
            int64_t group,
            int64_t block_size,
            bool is_cuda);

  int64_t n_batch() const { return n_sequences * n_kv_heads; }
  Tensor fold_queries(const Tensor& x) const;  // [n_sequences * n, n_heads, d]
  Tensor fold_keys(const Tensor& x) const;     // [n_sequences * n, n_kv_heads, d]
  /// The inverse of both: [n_sequences * n, heads, d], contiguous.
  Tensor unfold(const Tensor& folded) const;
};

/// Numbers of the blocks that each query chooses, in any order: [n_batch, n_padded, n_places]
/// int64; -1 where there are fewer. Scores, shares and sums in float32, float64 where q is; means
/// rounded to k's dtype. Pieces of bounded memory.
Tensor choose_folded(const BlockRows& rows,
                     const Tensor& q,
                     const Tensor& k,
                     double scale,
                     const BlockOptions& options);

}  // namespace ssa
