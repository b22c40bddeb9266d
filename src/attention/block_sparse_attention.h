// Block-sparse attention with gradients, for training: outputs of full attention, of attention over
// each query's best blocks of keys, or of both in one call. No gradient flows through the choice.
//
//   chosen = the n_blocks best blocks of each query and key/value head      block_selection.h
//   sparse = softmax over the keys of those blocks up to the query
//   full   = softmax over all keys up to the query
//   kept   = full's mass inside the chosen blocks = exp(lse of sparse - lse of full)
//
// Source: arXiv 2511.20102.
#pragma once

#include <torch/types.h>

#include "selection/block_options.h"

namespace ssa {

using torch::Tensor;

/// Sequences of equal length one behind the other, which do not see each other. All of one float
/// dtype (f16 aside) and device; q and k rotated.
struct BlockSparseInput {
  Tensor q;  // [n_sequences * n, n_heads, head_dim]
  Tensor k;  // [n_sequences * n, n_kv_heads, head_dim]
  Tensor v;  // as k
  int64_t n_sequences = 1;
  double scale = 1.0;
};

/// What is wanted.
struct BlockSparseStreams {
  bool full = true;
  bool sparse = true;
};

struct BlockSparseOutput {
  Tensor full;    // as q; undefined unless asked for
  Tensor sparse;  // as q; undefined unless asked for
  /// Share of each query's full attention that falls into its blocks: [n_sequences * n, n_heads],
  /// float32 or better, without gradient; undefined unless both are asked for.
  Tensor kept;
};

/// Works in pieces of queries: memory is linear in n, backward and forward, and the backward pass
/// scores again from q, k, v, chosen blocks and log-sum-exps. Safe from many threads. This is the
/// entry point that a kernel of one pass over the keys takes the place of. Throws Error for options
/// that cannot be (check_block_options).
BlockSparseOutput block_sparse_attention(const BlockSparseInput& in,
                                         const BlockOptions& options,
                                         const BlockSparseStreams& streams = {});

/// The blocks that those queries choose, in any order: [n_sequences * n_kv_heads, n, n_places]
/// int64; -1 where there are fewer. As select_blocks (block_selection.h) for whole batches, with
/// scores and shares in float32 (float64 where q is).
Tensor chosen_blocks(const BlockSparseInput& in, const BlockOptions& options);

}  // namespace ssa
