// The two branches that NSA (arXiv 2502.11089, as arXiv 2511.20102 compares with) has beside chosen
// blocks: all complete blocks by their means, and the last tokens as they are. Plain LibTorch with
// gradients, for training.
#pragma once

#include "attention/block_sparse_attention.h"

namespace ssa {

/// Softmax over the complete blocks, the query's own once the query closes it: means of rotated
/// keys score, means of values are what is attended; gradients into both. 0 while no block is
/// complete. As q.
Tensor compressed_attention(const BlockSparseInput& in, int64_t block_size);

/// Softmax over the last `window` tokens, the query's included. Memory linear in n. As q.
Tensor window_attention(const BlockSparseInput& in, int64_t window);

}  // namespace ssa
