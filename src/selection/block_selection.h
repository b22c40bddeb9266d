// Which blocks of keys each query attends under block-sparse attention: the reference.
//
//   keys, block_size 4    [0 1 2 3] [4 5 6 7] [8 9 . .]      query t = 9, its own block 2
//   ranked by               mean 0    mean 1    none: open
//   importance            sum over the group's heads of softmax(q . mean * scale)     own: above
//   all
#pragma once

#include <torch/types.h>

#include "selection/block_options.h"

namespace ssa {

using torch::Tensor;

/// All functions here work on any device, keep the tensors they are given, record no gradients, are
/// safe from many threads, and give what plain loops over one query after the other would: how
/// queries are split over calls does not matter. Source: arXiv 2511.20102; docs/sparse_sparse.md.

/// Blocks ranked by query t: those that are complete once key t is there, its own included if t
/// closes it.
inline int64_t ranked_blocks(int64_t t, int64_t block_size) {
  return (t + 1) / block_size;
}

/// Blocks that a query is given at most: n_blocks, under the published rule rounded up to a power
/// of two.
int64_t places_of(const BlockOptions& options);

/// Means of the complete blocks of keys [n_kv_heads, n_keys, d]: [n_kv_heads, n_keys / block_size,
/// d], each summed in token order in float32 (float64 keys: in float64), divided by block_size and
/// rounded to the keys' type, as caches store them. (Of values just the same.)
Tensor block_means(const Tensor& keys, int64_t block_size);

/// Scaled scores of queries against means, [n_tokens, n_heads, n_ranked]: products and sums in
/// float64, rounded to float32 unless q is float64. A score depends on its query and its mean
/// alone, so that equal means tie.
Tensor block_scores(const Tensor& q,      // [n_tokens, n_heads, d]
                    const Tensor& means,  // [n_kv_heads, n_ranked, d]
                    double scale);

/// What scores come to: [n_tokens, n_kv_heads, n_places] int64, block numbers rising, padded with
/// -1 at the end. Query i stands at token first + i, its own block is t / block_size.
///
/// Each head's scores become shares by a softmax over its ranked blocks, in the scores' type; the
/// group's heads are added in their order. t's own block is always taken; then the higher sum, and
/// among equal ones the lower number. Scores need not be finite: NaN takes no part in the softmax
/// and a block that is NaN for any head is not chosen (unless it is t's own); +inf takes all of its
/// head's share, in equal parts where there are several, and a head that has nothing but -inf
/// shares equally. Scores of blocks that t does not rank are not looked at.
Tensor choose_blocks(
    const Tensor& scores,  // [n_tokens, n_heads, >= ranked by the last], f32 or f64
    int64_t n_kv_heads,
    int64_t first,
    const BlockOptions& options);

/// Both in one, in pieces of bounded memory.
Tensor select_blocks(const Tensor& q,      // [n_tokens, n_heads, d], rotated
                     const Tensor& means,  // [n_kv_heads, >= ranked by the last, d]
                     int64_t first,
                     double scale,
                     const BlockOptions& options);

/// The keys of those blocks up to each query, for attention under a mask: [n_kv_heads, n_tokens,
/// n_keys] bool.
Tensor block_mask(const Tensor& blocks,  // [n_tokens, n_kv_heads, n_places]
                  int64_t first,
                  int64_t n_keys,
                  int64_t block_size);

/// The same for sparse_attention: [n_tokens, n_kv_heads, n_places * block_size] int64 key indices;
/// -1 where there is no block or the key lies behind the query.
Tensor block_keys(const Tensor& blocks, int64_t first, int64_t block_size);

}  // namespace ssa
