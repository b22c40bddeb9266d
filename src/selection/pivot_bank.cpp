#include "selection/pivot_bank.h"

#include <algorithm>
#include <cmath>
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

/// Keys that make each gist's pivot: its own, or those of the raw tokens below it.
std::vector<std::vector<int64_t>> keys_of_gists(const ChunkView& view, Pivot pivot, int level) {
  const GistLayout& layout = view.layout;
  std::vector<std::vector<int64_t>> keys(static_cast<size_t>(layout.n_gists(level)));
  for (size_t gist = 0; gist < keys.size(); ++gist) {
    if (pivot == Pivot::kGist) {
      keys[gist] = {layout.gists(level)[gist]};
      continue;
    }
    const Range chunks = chunks_below(layout, level, static_cast<int64_t>(gist));
    for (int64_t chunk = chunks.begin; chunk < chunks.end; ++chunk) {
      const Range tokens = view.tokens(chunk);
      for (int64_t token = tokens.begin; token < tokens.end; ++token) {
        keys[gist].push_back(token);
      }
    }
  }
  return keys;
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

/// [n_sequences, ...] as each sequence's heads need it: [n_heads, ...].
Tensor for_heads(const Tensor& x, int64_t n_heads) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.insert(sizes.begin() + 1, n_heads / x.size(0));
  return x.unsqueeze(1).expand(sizes).flatten(0, 1);
}

/// Keys of several sequences side by side at each one's indices: [n_heads, n, head_dim].
Tensor keys_at(const Tensor& keys, const Tensor& indices) {
  if (indices.size(0) == 1) {
    return keys.index_select(1, indices[0]);
  }
  const Tensor by_sequence = keys.unflatten(0, {indices.size(0), -1});
  const Tensor where = indices.unsqueeze(1).unsqueeze(3).expand(
      {indices.size(0), by_sequence.size(1), indices.size(1), keys.size(2)});
  return by_sequence.gather(2, where).flatten(0, 1);
}

}  // namespace

PivotIndex::PivotIndex(std::span<const ChunkView> views, Pivot pivot, torch::Device device)
    : pivot_(pivot), n_sequences_(std::ssize(views)) {
  for (int level = 0; level < views.front().layout.n_levels(); ++level) {
    levels_.push_back(index_level(views, pivot, level));
    Level& made = levels_.back();
    for (Tensor* tensor : {&made.keys, &made.count, &made.ordinals, &made.missing}) {
      *tensor = tensor->defined() ? tensor->to(device) : Tensor();
    }
  }
}

/// On the CPU. Rows shorter than the longest are padded by their first key, which changes no
/// extreme.
PivotIndex::Level PivotIndex::index_level(std::span<const ChunkView> views,
                                          Pivot pivot,
                                          int level) {
  std::vector<std::vector<std::vector<int64_t>>> rows;  // [n_sequences][n_gists][keys]
  size_t n_gists = 0, longest = 1;
  for (const ChunkView& view : views) {
    rows.push_back(keys_of_gists(view, pivot, level));
    n_gists = std::max(n_gists, rows.back().size());
    for (const auto& row : rows.back()) {
      longest = std::max(longest, row.size());
    }
  }
  Level made{.n_gists = static_cast<int64_t>(n_gists)};
  std::vector<int64_t> keys, count, missing;
  for (auto& sequence : rows) {
    missing.insert(missing.end(), sequence.size(), 0);
    missing.insert(missing.end(), n_gists - sequence.size(), 1);
    sequence.resize(n_gists);
    for (auto& row : sequence) {
      count.push_back(static_cast<int64_t>(row.size()));
      row.resize(longest, row.empty() ? 0 : row.front());
      keys.insert(keys.end(), row.begin(), row.end());
    }
  }
  const int64_t n = std::ssize(views);
  const Tensor absent = torch::tensor(missing, torch::kInt64).view({n, made.n_gists});
  if (std::find(missing.begin(), missing.end(), 1) != missing.end()) {
    made.missing = absent.to(torch::kBool);
  }
  if (pivot == Pivot::kRecent || pivot == Pivot::kRandom) {
    made.ordinals = ordinal_scores(pivot, made.n_gists);
    return made;
  }
  made.keys =
      torch::tensor(keys, torch::kInt64).view({n, made.n_gists * static_cast<int64_t>(longest)});
  if (pivot == Pivot::kMean) {
    made.count = torch::tensor(count, torch::kInt64).view({n, made.n_gists, 1});
  }
  return made;
}

PivotBank::PivotBank(const ChunkView& view, Pivot pivot, const Tensor& keys)
    : PivotBank(std::make_shared<PivotIndex>(std::span(&view, 1), pivot, keys.device()), keys) {}

PivotBank::PivotBank(std::shared_ptr<const PivotIndex> index, const Tensor& keys)
    : index_(std::move(index)), n_kv_heads_(keys.size(0)) {
  for (const PivotIndex::Level& level : index_->levels_) {
    levels_.push_back(build_level(level, keys));
  }
}

PivotBank::Level PivotBank::build_level(const PivotIndex::Level& from, const Tensor& keys) const {
  const Pivot pivot = index_->pivot_;
  if (from.ordinals.defined()) {
    return {from.ordinals, {}};
  }
  const auto type = wide_type(keys);
  if (from.n_gists == 0) {
    return {torch::empty({keys.size(0), 0, keys.size(2)}, keys.options().dtype(type)), {}};
  }
  const Tensor found = keys_at(keys, from.keys).to(type);
  if (pivot == Pivot::kGist) {
    return {found, {}};
  }
  const Tensor raw = found.unflatten(1, {from.n_gists, -1});  // [n_kv_heads, n, longest, head_dim]
  if (pivot == Pivot::kQuest) {
    return {raw.amax(2), raw.amin(2)};
  }
  const Tensor absent = torch::arange(raw.size(2), from.count.options()) >= from.count;
  const Tensor sums = raw.masked_fill(for_heads(absent, keys.size(0)).unsqueeze(3), 0.0).sum(2);
  return {(sums / for_heads(from.count, keys.size(0))).to(keys.scalar_type()).to(type),
          {}};  // summed wide, kept as keys are kept
}

Tensor PivotBank::score_level(const Tensor& q, const Level& level) const {
  switch (index_->pivot_) {
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
  for (size_t level = 0; level < levels_.size(); ++level) {
    scores.push_back(score_level(grouped, levels_[level]));
    if (const Tensor& missing = index_->levels_[level].missing; missing.defined()) {
      const Tensor by_head = for_heads(missing, n_kv_heads_);
      scores.back() = scores.back().masked_fill(by_head.unsqueeze(1).unsqueeze(1), NAN);
    }
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
