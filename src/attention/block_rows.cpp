#include "attention/block_rows.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "selection/block_selection.h"

namespace ssa {
namespace {

constexpr double kLowest = -std::numeric_limits<double>::infinity();

Tensor fold(const BlockRows& rows, const Tensor& x, int64_t group) {
  const int64_t d = x.size(2);
  const Tensor by_head =
      x.view({rows.n_sequences, rows.n, rows.n_kv_heads, group, d}).permute({0, 2, 3, 1, 4});
  if (rows.n == rows.n_padded) {
    return by_head.contiguous().view({rows.n_batch(), group, rows.n, d});
  }
  const Tensor padded = torch::zeros({rows.n_batch(), group, rows.n_padded, d}, x.options());
  padded.narrow(2, 0, rows.n).copy_(by_head.reshape({rows.n_batch(), group, rows.n, d}));
  return padded;
}

/// The n_places best by importance, the lower number among equal ones: a stable sort keeps them in
/// their order. importance: [n_batch, n_rows, n_blocks], -inf: cannot be chosen.
Tensor best_places(const Tensor& importance, int64_t n_places) {
  const auto [value, block] = importance.sort(/*stable=*/true, /*dim=*/-1, /*descending=*/true);
  const int64_t n_there = std::min(n_places, importance.size(2));
  return block.narrow(2, 0, n_there).masked_fill(value.narrow(2, 0, n_there).isneginf(), -1);
}

/// Rule exact for rows [first, first + n_rows), whose scores are overwritten. scores: [n_batch,
/// group, n_rows, n_blocks].
Tensor choose_exactly(Tensor scores, int64_t first, const BlockOptions& options) {
  const int64_t n_rows = scores.size(2), n_blocks = scores.size(3);
  const Tensor t =
      torch::arange(first, first + n_rows, torch::dtype(torch::kInt64).device(scores.device()))
          .unsqueeze(1);
  const Tensor unranked =
      torch::arange(n_blocks, t.options()) >= (t + 1).div(options.block_size, "floor");
  const Tensor shares = scores.masked_fill_(unranked, kLowest).softmax(-1).sum(1);
  const Tensor own = t.div(options.block_size, "floor").expand({scores.size(0), n_rows, 1});
  return best_places(shares.masked_fill_(unranked, kLowest).scatter_(2, own, -kLowest),
                     options.n_blocks);
}

/// By the reference: heads of all sequences are heads.
Tensor choose_by_reference(const Tensor& scores, int64_t first, const BlockOptions& options) {
  return choose_blocks(scores.permute({2, 0, 1, 3}).flatten(1, 2), scores.size(0), first, options)
      .transpose(0, 1);
}

}  // namespace

BlockRows::BlockRows(int64_t n_sequences_,
                     int64_t n_,
                     int64_t n_kv_heads_,
                     int64_t group_,
                     int64_t block_size_,
                     bool is_cuda)
    : n_sequences(n_sequences_),
      n(n_),
      n_kv_heads(n_kv_heads_),
      group(group_),
      block_size(block_size_),
      // Whole tiles of keys: see choose_backend() in partial_attention.cpp.
      unit(is_cuda ? std::lcm(block_size_, int64_t{128}) : block_size_),
      n_padded((n_ + unit - 1) / unit * unit) {}

Tensor BlockRows::fold_queries(const Tensor& x) const {
  return fold(*this, x.contiguous(), group);
}

Tensor BlockRows::fold_keys(const Tensor& x) const {
  return fold(*this, x.contiguous(), 1);
}

Tensor BlockRows::unfold(const Tensor& folded) const {
  return folded.narrow(2, 0, n)
      .unflatten(0, {n_sequences, n_kv_heads})
      .permute({0, 3, 1, 2, 4})
      .reshape({n_sequences * n, n_kv_heads * folded.size(1), folded.size(3)});
}

Tensor choose_folded(const BlockRows& rows,
                     const Tensor& q,
                     const Tensor& k,
                     double scale,
                     const BlockOptions& options) {
  const torch::NoGradGuard no_grad;
  const auto wide = torch::promote_types(q.scalar_type(), torch::kFloat32);
  const int64_t n_blocks = rows.n_padded / rows.block_size;
  const Tensor means = k.squeeze(1)
                           .unflatten(1, {n_blocks, rows.block_size})
                           .to(wide)
                           .mean(2)
                           .to(k.scalar_type())
                           .to(wide)
                           .mul(scale)
                           .unsqueeze(1)
                           .transpose(2, 3);  // [n_batch, 1, d, n_blocks]
  const int64_t numbers = q.is_cuda() ? int64_t{1} << 27 : int64_t{1} << 22;
  const int64_t piece =
      std::max<int64_t>(rows.block_size, numbers / (rows.n_batch() * rows.group * n_blocks));
  const int64_t n_places = std::min(places_of(options), n_blocks);
  std::vector<Tensor> pieces;
  for (int64_t begin = 0; begin < rows.n_padded; begin += piece) {
    const int64_t n = std::min(piece, rows.n_padded - begin);
    const Tensor scores = torch::matmul(q.narrow(2, begin, n).to(wide), means);
    const Tensor chosen = options.rule == BlockRule::kExact
                              ? choose_exactly(scores, begin, options)
                              : choose_by_reference(scores, begin, options);
    pieces.push_back(torch::constant_pad_nd(chosen, {0, n_places - chosen.size(2)}, -1));
  }
  return pieces.size() == 1 ? pieces[0] : torch::cat(pieces, 1);
}

}  // namespace ssa
