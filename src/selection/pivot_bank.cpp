#include "selection/pivot_bank.h"

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

/// Indices in the sequence of the raw tokens under gist `ordinal` of `level`.
std::vector<int64_t> tokens_below(const ChunkView& view, int level, int64_t ordinal) {
  std::vector<int64_t> indices;
  const Range chunks = chunks_below(view.layout, level, ordinal);
  for (int64_t chunk = chunks.begin; chunk < chunks.end; ++chunk) {
    const Range tokens = view.tokens(chunk);
    for (int64_t token = tokens.begin; token < tokens.end; ++token) {
      indices.push_back(token);
    }
  }
  return indices;
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

/// Scores of every head against its key/value head's rows: [n_queries, n_heads, n].
Tensor score_heads(const Tensor& q, const Tensor& rows) {
  const Tensor grouped =
      q.unflatten(1, {rows.size(0), -1});  // [n_queries, n_kv_heads, group, head_dim]
  return torch::matmul(grouped, rows.transpose(1, 2))
      .flatten(1, 2);  // rows: [n_kv_heads, head_dim, n]
}

}  // namespace

PivotBank::PivotBank(const ChunkView& view, Pivot pivot, const Tensor& keys) : pivot_(pivot) {
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
    return {ordinal_scores(pivot, n), {}};
  }
  const auto on_device = [&](const std::vector<int64_t>& values) {
    return torch::tensor(values, torch::kInt64).to(keys.device());
  };
  const auto type = wide_type(keys);
  if (pivot == Pivot::kGist) {
    const std::span<const int64_t> gists = view.layout.gists(level);
    return {keys.index_select(1, on_device({gists.begin(), gists.end()})).to(type), {}};
  }
  if (n == 0) {
    return {torch::empty({keys.size(0), 0, keys.size(2)}, keys.options().dtype(type)), {}};
  }
  std::vector<Tensor> rows, low;
  for (int64_t gist = 0; gist < n; ++gist) {
    const Tensor raw = keys.index_select(1, on_device(tokens_below(view, level, gist))).to(type);
    if (pivot == Pivot::kQuest) {
      rows.push_back(raw.amax(1));
      low.push_back(raw.amin(1));
    } else {
      rows.push_back(
          raw.mean(1).to(keys.scalar_type()).to(type));  // summed wide, kept as keys are kept
    }
  }
  return {torch::stack(rows, 1), low.empty() ? Tensor() : torch::stack(low, 1)};
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
      return level.rows.expand({q.size(0), q.size(1), level.rows.size(0)});
  }
  TORCH_INTERNAL_ASSERT(false, "pivot without a score");
}

std::vector<Tensor> PivotBank::scores(const Tensor& q) const {
  const Tensor wide = q.to(wide_type(q));
  std::vector<Tensor> scores;
  for (const Level& level : levels_) {
    scores.push_back(score_level(wide, level).to(torch::kCPU, torch::kFloat64).contiguous());
  }
  return scores;
}

}  // namespace ssa
