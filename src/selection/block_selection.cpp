// Plain LibTorch, written to be read beside the paper. Faster versions are measured against it.
#include "selection/block_selection.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "base/error.h"

namespace ssa {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kLargest = int64_t{1} << 30;       // of block_size and n_blocks
constexpr int64_t kPieceNumbers = int64_t{1} << 24;  // 64 MiB of float32 scores a piece

int64_t power_of_two_above(int64_t n) {
  int64_t power = 1;
  while (power < n) {
    power *= 2;
  }
  return power;
}

/// Token index of each query: [n_tokens, 1, 1].
Tensor query_index(int64_t n_tokens, int64_t first, torch::Device device) {
  return torch::arange(first, first + n_tokens, torch::dtype(torch::kInt64).device(device))
      .view({-1, 1, 1});
}

Tensor divide_down(const Tensor& x, int64_t by) {
  return x.div(by, "floor");
}

/// Softmax over the last dimension of the places in `takes_part`, 0 elsewhere; infinities as their
/// limits.
Tensor softmax_of(const Tensor& scores, const Tensor& takes_part) {
  const Tensor present = scores.masked_fill(takes_part.logical_not(), -kInfinity);
  const Tensor highest = present.amax(-1, /*keepdim=*/true);
  const Tensor weights = torch::where(
      highest.isinf(), present.eq(highest).to(scores.scalar_type()), (present - highest).exp());
  const Tensor counted = weights.masked_fill(takes_part.logical_not(), 0.0);
  return counted / counted.sum(-1, /*keepdim=*/true);
}

/// Importance of blocks [0, own of the last query] for each group: [n_tokens, n_kv_heads,
/// n_candidates]; a query's own block is +inf, blocks that cannot be chosen are -inf.
Tensor importance_of(const Tensor& scores, int64_t n_kv_heads, int64_t first, int64_t block_size) {
  const int64_t n_tokens = scores.size(0);
  const int64_t n_ranked = ranked_blocks(first + n_tokens - 1, block_size);
  const int64_t n_candidates = (first + n_tokens - 1) / block_size + 1;
  const Tensor t = query_index(n_tokens, first, scores.device());
  const Tensor block = torch::arange(n_ranked, t.options());
  const Tensor ranked = block < divide_down(t + 1, block_size);  // [n_tokens, 1, n_ranked]
  const Tensor seen = scores.narrow(2, 0, n_ranked);
  const Tensor number = ranked.logical_and(seen.isnan().logical_not());
  const Tensor shares =
      n_ranked == 0 ? seen : softmax_of(seen, number).masked_fill(number.logical_not(), -kInfinity);
  const Tensor grouped = shares.unflatten(1, {n_kv_heads, -1});
  Tensor sums = grouped.select(2, 0).clone();
  for (int64_t head = 1; head < grouped.size(2); ++head) {
    sums += grouped.select(2, head);
  }
  const Tensor open =
      torch::full({n_tokens, n_kv_heads, n_candidates - n_ranked}, -kInfinity, scores.options());
  const Tensor own = divide_down(t, block_size).expand({n_tokens, n_kv_heads, 1});
  return torch::cat({sums, open}, 2).scatter(2, own, kInfinity);
}

/// Numbers of the n best, in any order; `absent` where fewer can be chosen. Ties go to the lower
/// number: the sort is stable.
Tensor best_blocks(const Tensor& importance, int64_t n, int64_t absent) {
  const auto [value, block] = importance.sort(/*stable=*/true, /*dim=*/-1, /*descending=*/true);
  const int64_t n_there = std::min(n, importance.size(2));
  return block.narrow(2, 0, n_there).masked_fill(value.narrow(2, 0, n_there).isneginf(), absent);
}

/// The published rule where it keeps as many blocks as a block has tokens: blocks are cut at c, the
/// last multiple of block_size up to the own block, and each side keeps half. Queries with fewer
/// than block_size blocks before their own keep them all.
Tensor best_of_two_sides(const Tensor& importance,
                         int64_t first,
                         int64_t block_size,
                         int64_t absent) {
  const Tensor own =
      divide_down(query_index(importance.size(0), first, importance.device()), block_size);
  const Tensor cut = divide_down(own, block_size) * block_size;
  const Tensor block = torch::arange(importance.size(2), cut.options());
  const auto side = [&](const Tensor& elsewhere) {
    return best_blocks(importance.masked_fill(elsewhere, -kInfinity), block_size / 2, absent);
  };
  const Tensor sides = torch::cat({side(block >= cut), side(block < cut)}, 2);
  const Tensor all = best_blocks(importance, block_size, absent);
  const int64_t n_places = std::min(all.size(2), sides.size(2));
  return torch::where(own < block_size, all.narrow(2, 0, n_places), sides.narrow(2, 0, n_places));
}

}  // namespace

void check_block_options(const BlockOptions& options) {
  check(options.block_size > 0 && options.block_size <= kLargest,
        "block size ",
        options.block_size,
        ": expected 1 to ",
        kLargest);
  check(options.n_blocks > 0 && options.n_blocks <= kLargest,
        "number of blocks ",
        options.n_blocks,
        ": expected 1 to ",
        kLargest);
  if (options.rule == BlockRule::kPublished) {
    check(options.block_size > 1, "the published rule needs blocks of 2 tokens or more");
    check(places_of(options) <= options.block_size,
          "number of blocks ",
          options.n_blocks,
          ": under the published rule, rounded up to a power of two, it must not exceed the block "
          "size ",
          options.block_size);
  }
}

int64_t places_of(const BlockOptions& options) {
  return options.rule == BlockRule::kPublished ? power_of_two_above(options.n_blocks)
                                               : options.n_blocks;
}

Tensor block_means(const Tensor& keys, int64_t block_size) {
  const torch::NoGradGuard no_grad;
  const int64_t n_blocks = keys.size(1) / block_size;
  const auto wide = keys.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  const Tensor blocks =
      keys.narrow(1, 0, n_blocks * block_size).unflatten(1, {n_blocks, block_size});
  Tensor sums = blocks.select(2, 0).to(wide, /*non_blocking=*/false, /*copy=*/true);
  for (int64_t i = 1; i < block_size; ++i) {
    sums += blocks.select(2, i);
  }
  return sums.div_(block_size).to(keys.scalar_type());
}

Tensor block_scores(const Tensor& q, const Tensor& means, double scale) {
  const torch::NoGradGuard no_grad;
  const Tensor queries = q.to(torch::kFloat64).unflatten(1, {means.size(0), -1});
  const Tensor keys = means.to(torch::kFloat64);
  if (q.scalar_type() == torch::kFloat64) {
    // Matrix products add in an order of their own at the edges of their tiles: equal means would
    // not tie.
    return (queries.unsqueeze(3) * keys.unsqueeze(1)).sum(-1).flatten(1, 2) * scale;
  }
  const Tensor products = torch::matmul(queries, keys.transpose(1, 2));
  return (products.flatten(1, 2) * scale).to(torch::kFloat32);
}

Tensor choose_blocks(const Tensor& scores,
                     int64_t n_kv_heads,
                     int64_t first,
                     const BlockOptions& options) {
  const torch::NoGradGuard no_grad;
  check_block_options(options);
  const int64_t block_size = options.block_size, last = first + scores.size(0) - 1;
  TORCH_CHECK(scores.dim() == 3 && scores.size(1) % n_kv_heads == 0 &&
                  scores.size(2) >= ranked_blocks(last, block_size),
              "choose_blocks: scores ",
              scores.sizes(),
              " for ",
              n_kv_heads,
              " key/value heads and ",
              ranked_blocks(last, block_size),
              " blocks");
  const Tensor importance = importance_of(scores, n_kv_heads, first, block_size);
  const int64_t absent = importance.size(2);  // sorts behind every block
  const bool two_sides = options.rule == BlockRule::kPublished && places_of(options) == block_size;
  const Tensor chosen = two_sides ? best_of_two_sides(importance, first, block_size, absent)
                                  : best_blocks(importance, places_of(options), absent);
  const Tensor rising = std::get<0>(chosen.sort(-1));
  return rising.masked_fill(rising == absent, -1);
}

Tensor select_blocks(const Tensor& q,
                     const Tensor& means,
                     int64_t first,
                     double scale,
                     const BlockOptions& options) {
  const torch::NoGradGuard no_grad;
  const int64_t n_tokens = q.size(0), n_heads = q.size(1);
  const int64_t n_ranked = ranked_blocks(first + n_tokens - 1, options.block_size);
  const int64_t n_places =
      std::min(places_of(options), (first + n_tokens - 1) / options.block_size + 1);
  const int64_t depth = q.scalar_type() == torch::kFloat64 ? q.size(2) : 1;
  const int64_t piece =
      std::max<int64_t>(1, kPieceNumbers / (n_heads * depth * std::max<int64_t>(n_ranked, 1)));
  std::vector<Tensor> pieces;
  for (int64_t begin = 0; begin < n_tokens; begin += piece) {
    const Tensor rows = q.narrow(0, begin, std::min(piece, n_tokens - begin));
    const Tensor scores = block_scores(rows, means.narrow(1, 0, n_ranked), scale);
    const Tensor chosen = choose_blocks(scores, means.size(0), first + begin, options);
    pieces.push_back(torch::constant_pad_nd(chosen, {0, n_places - chosen.size(2)}, /*value=*/-1));
  }
  return torch::cat(pieces, 0);
}

Tensor block_mask(const Tensor& blocks, int64_t first, int64_t n_keys, int64_t block_size) {
  const torch::NoGradGuard no_grad;
  const int64_t n_tokens = blocks.size(0), n_kv_heads = blocks.size(1);
  const int64_t n_blocks = (n_keys + block_size - 1) / block_size;
  // Places without a block mark one that is not there.
  const Tensor marked =
      torch::zeros({n_tokens, n_kv_heads, n_blocks + 1}, blocks.options().dtype(torch::kBool))
          .scatter(2, torch::where(blocks < 0, n_blocks, blocks), true);
  const Tensor key = torch::arange(n_keys, blocks.options());
  const Tensor in_blocks = marked.index_select(2, divide_down(key, block_size));
  const Tensor causal = key <= query_index(n_tokens, first, blocks.device());
  return in_blocks.logical_and(causal).transpose(0, 1);
}

Tensor block_keys(const Tensor& blocks, int64_t first, int64_t block_size) {
  const torch::NoGradGuard no_grad;
  const Tensor offsets = torch::arange(block_size, blocks.options());
  const Tensor keys = (blocks.unsqueeze(3) * block_size + offsets).flatten(2);
  const Tensor there = (blocks >= 0).repeat_interleave(block_size, 2);
  const Tensor causal = keys <= query_index(blocks.size(0), first, blocks.device());
  return keys.masked_fill(there.logical_and(causal).logical_not(), -1);
}

}  // namespace ssa
