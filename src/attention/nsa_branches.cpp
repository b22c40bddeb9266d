#include "attention/nsa_branches.h"

#include <algorithm>

#include "attention/block_rows.h"
#include "attention/visible_attention.h"

namespace ssa {
namespace {

BlockRows branch_rows(const BlockSparseInput& in, int64_t block_size) {
  return {in.n_sequences,
          in.q.size(0) / in.n_sequences,
          in.k.size(1),
          in.q.size(1) / in.k.size(1),
          block_size,
          /*is_cuda=*/false};
}

Tensor counting(int64_t n, const Tensor& like) {
  return torch::arange(n, torch::dtype(torch::kInt64).device(like.device()));
}

/// Each piece of `window` keys behind the one before it, zeros before the first: [n_batch *
/// n_pieces, 1, 2 * window, d].
Tensor with_previous(const Tensor& keys, int64_t window) {
  const Tensor pieces = keys.squeeze(1).unflatten(1, {-1, window});
  const Tensor previous =
      torch::constant_pad_nd(pieces.narrow(1, 0, pieces.size(1) - 1), {0, 0, 0, 0, 1, 0});
  return torch::cat({previous, pieces}, 2).flatten(0, 1).unsqueeze(1);
}

}  // namespace

Tensor compressed_attention(const BlockSparseInput& in, int64_t block_size) {
  const BlockRows rows = branch_rows(in, block_size);
  if (rows.n < block_size) {
    return in.q * 0.0;
  }
  const int64_t n_blocks = rows.n / block_size;
  const auto means = [&](const Tensor& x) {
    return rows.fold_keys(x)
        .narrow(2, 0, n_blocks * block_size)
        .unflatten(2, {n_blocks, block_size})
        .mean(3);
  };
  const Tensor q = rows.fold_queries(in.q);
  const Tensor n_complete = (counting(rows.n_padded, q) + 1).div(block_size, "floor").unsqueeze(1);
  // The first queries, which see no block, look at one, and nothing comes of it.
  const Tensor seen = counting(n_blocks, q) < n_complete.clamp_min(1);
  const Tensor out =
      visible_attention(q, means(in.k), means(in.v), seen.view({1, 1, -1, n_blocks}), in.scale);
  return rows.unfold(out.masked_fill(n_complete == 0, 0.0));
}

Tensor window_attention(const BlockSparseInput& in, int64_t window) {
  TORCH_CHECK(window > 0, "window ", window, ": expected 1 or more");
  const BlockRows rows = branch_rows(in, window);
  const Tensor q = rows.fold_queries(in.q);
  const int64_t n_pieces = rows.n_padded / window;
  const Tensor pieces = q.unflatten(2, {n_pieces, window}).transpose(1, 2).flatten(0, 1);
  // Row i of a piece sees keys (i, i + window] of the two; the first piece has none before it.
  const Tensor row = counting(window, q).unsqueeze(1), key = counting(2 * window, q);
  const Tensor near = (key > row).logical_and(key <= row + window);
  const Tensor there = (key >= window).logical_or(counting(n_pieces, q).unsqueeze(1) > 0);
  const Tensor seen = near.logical_and(there.unsqueeze(1))
                          .repeat({rows.n_batch(), 1, 1})
                          .unsqueeze(1);  // [n_batch * n_pieces, 1, window, 2 * window]
  const Tensor out = visible_attention(pieces,
                                       with_previous(rows.fold_keys(in.k), window),
                                       with_previous(rows.fold_keys(in.v), window),
                                       seen,
                                       in.scale);
  return rows.unfold(out.unflatten(0, {rows.n_batch(), n_pieces}).transpose(1, 2).flatten(2, 3));
}

}  // namespace ssa
