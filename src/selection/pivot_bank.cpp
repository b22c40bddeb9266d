#include "selection/pivot_bank.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace ssa {
namespace {

torch::ScalarType wide_type(const Tensor& x) {
  return x.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
}

/// The level-0 chunks under gist `ordinal` of `level`.
Range chunks_below(const GistLayout& layout, int level, int64_t ordinal) {
  Range range{ordinal, ordinal + 1};
  for (int i = level; i > 0; --i) {
    range = {layout.children(i, range.begin).begin, layout.children(i, range.end - 1).end};
  }
  return range;
}

/// Indices in the sequence of the raw tokens under each gist of a level: [n_gists, longest] int64,
/// padded by the first of the row, which changes no extreme; and how many they are: [n_gists, 1].
struct TokensBelow {
  Tensor indices, count;
};

TokensBelow tokens_below(const ChunkView& view, int level) {
  std::vector<std::vector<int64_t>> rows(static_cast<size_t>(view.layout.n_gists(level)));
  size_t longest = 0;
  for (size_t gist = 0; gist < rows.size(); ++gist) {
    const Range chunks = chunks_below(view.layout, level, static_cast<int64_t>(gist));
    for (int64_t chunk = chunks.begin; chunk < chunks.end; ++chunk) {
      const Range tokens = view.tokens(chunk);
      for (int64_t token = tokens.begin; token < tokens.end; ++token) {
        rows[gist].push_back(token);
      }
    }
    longest = std::max(longest, rows[gist].size());
  }
  std::vector<int64_t> indices, count;
  for (auto& row : rows) {
    count.push_back(static_cast<int64_t>(row.size()));
    row.resize(longest, row.front());
    indices.insert(indices.end(), row.begin(), row.end());
  }
  return {torch::tensor(indices, torch::kInt64).view({-1, static_cast<int64_t>(longest)}),
          torch::tensor(count, torch::kInt64).unsqueeze(1)};
}

/// A fixed shuffle (splitmix64, Steele et al. 2014).
double shuffled(int64_t i) {
  uint64_t x = static_cast<uint64_t>(i + 1) * 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return static_cast<double>((x ^ (x >> 31)) >> 11);
}

Tensor ordinal_scores(Pivot pivot, int64_t n) {
  std::vector<double> scores(static_cast<size_t>(n));
  std::iota(scores.begin(), scores.end(), 0.0);
  if (pivot == Pivot::kRandom) {
    for (double& score : scores) {
      score = shuffled(static_cast<int64_t>(score));
    }
  }
  return torch::tensor(scores, torch::kFloat64);
}

/// Scores of grouped queries against their key/value head's rows: [n_kv_heads, n_queries, group,
/// n].
Tensor score_heads(const Tensor& q, const Tensor& rows) {
  return torch::bmm(q.flatten(1, 2), rows.transpose(1, 2))
      .unflatten(1, {q.size(1), q.size(2)});  // rows: [n_kv_heads, n, head_dim]
}

}  // namespace

PivotBank::PivotBank(const ChunkView& view, Pivot pivot, const Tensor& keys)
    : pivot_(pivot), n_kv_heads_(keys.size(0)) {
  for (int level = 0; level < view.layout.n_levels(); ++level) {
    levels_.push_back(build_level(view, pivot, keys, level));
  }
}

PivotBank::Level PivotBank::build_level(const ChunkView& view,
                                        Pivot pivot,
                                        const Tensor& keys,
                                        int level) {
  const int64_t n = view.layout.n_gists(level);
  if (pivot == Pivot::kRecent || pivot == Pivot::kRandom) {
    return {ordinal_scores(pivot, n).to(keys.device()), {}};
  }
  const auto type = wide_type(keys);
  if (pivot == Pivot::kGist) {
    const std::span<const int64_t> gists = view.layout.gists(level);
    const Tensor indices =
        torch::tensor(std::vector<int64_t>(gists.begin(), gists.end()), torch::kInt64);
    return {keys.index_select(1, indices.to(keys.device())).to(type), {}};
  }
  if (n == 0) {
    return {torch::empty({keys.size(0), 0, keys.size(2)}, keys.options().dtype(type)), {}};
  }
  const TokensBelow below = tokens_below(view, level);
  const int64_t longest = below.indices.size(1);
  const Tensor raw = keys.index_select(1, below.indices.flatten().to(keys.device()))
                         .to(type)
                         .unflatten(1, {n, longest});  // [n_kv_heads, n, longest, head_dim]
  if (pivot == Pivot::kQuest) {
    return {raw.amax(2), raw.amin(2)};
  }
  const Tensor absent = torch::arange(longest).unsqueeze(0) >= below.count;  // [n, longest]
  const Tensor sums = raw.masked_fill(absent.unsqueeze(2).to(keys.device()), 0.0).sum(2);
  return {(sums / below.count.to(keys.device())).to(keys.scalar_type()).to(type),
          {}};  // summed wide, kept as keys are kept
}

Tensor PivotBank::score_level(const Tensor& q, const Level& level) const {
  switch (pivot_) {
    case Pivot::kGist:
    case Pivot::kMean:
      return score_heads(q, level.rows);
    case Pivot::kQuest:  // max(q * low, q * high) is q * high where q > 0, q * low elsewhere
      return level.rows.size(1) == 0
                 ? score_heads(q, level.rows)
                 : score_heads(q.clamp_min(0), level.rows) + score_heads(q.clamp_max(0), level.low);
    case Pivot::kRecent:
    case Pivot::kRandom:
      return level.rows.expand({q.size(0), q.size(1), q.size(2), level.rows.size(0)});
  }
  TORCH_INTERNAL_ASSERT(false, "pivot without a score");
}

std::vector<Tensor> PivotBank::grouped_scores(const Tensor& q) const {
  const Tensor grouped =
      q.to(wide_type(q)).unflatten(1, {n_kv_heads_, -1}).transpose(0, 1).contiguous();
  std::vector<Tensor> scores;
  for (const Level& level : levels_) {
    scores.push_back(score_level(grouped, level));
  }
  return scores;
}

std::vector<Tensor> PivotBank::scores(const Tensor& q) const {
  std::vector<Tensor> scores = grouped_scores(q);
  for (Tensor& level : scores) {
    level = level.transpose(0, 1).flatten(1, 2).to(torch::kCPU, torch::kFloat64).contiguous();
  }
  return scores;
}

}  // namespace ssa
