// The reference: plain loops over one query's scores.
#include "selection/select.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>

namespace ssa {
namespace {

using Ordinals = std::vector<int64_t>;

/// softmax in float32. Infinities as limits: all +inf share everything, values that are all -inf
/// share equally.
std::vector<float> softmax(std::span<const double> values) {
  std::vector<float> shares(values.begin(), values.end());
  const float highest = *std::max_element(shares.begin(), shares.end());
  for (float& share : shares) {
    share = std::isinf(highest) ? static_cast<float>(share == highest) : std::exp(share - highest);
  }
  const float sum = std::accumulate(shares.begin(), shares.end(), 0.0F);
  for (float& share : shares) {
    share /= sum;
  }
  return shares;
}

/// How many of the ranked scores reach the mass, the one that does included.
size_t nucleus_size(std::span<const double> ranked, double mass) {
  if (mass >= 1 || ranked.empty()) {
    return ranked.size();
  }
  const std::vector<float> shares = softmax(ranked);
  float reached = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    reached += shares[i];
    if (reached >= static_cast<float>(mass)) {
      return i + 1;
    }
  }
  return ranked.size();
}

/// The best of the competing gists, sorted by ordinal.
Ordinals keep_best(std::span<const double> scores,
                   Ordinals competing,
                   int64_t top_k,
                   const SelectionOptions& options) {
  const auto score = [&](int64_t gist) { return scores[static_cast<size_t>(gist)]; };
  std::erase_if(competing, [&](int64_t gist) { return std::isnan(score(gist)); });
  const auto better = [&](int64_t a, int64_t b) {
    return score(a) > score(b) || (score(a) == score(b) && a < b);
  };
  size_t n_kept = std::min(competing.size(), static_cast<size_t>(top_k));
  if (options.mass) {
    std::sort(competing.begin(), competing.end(), better);
    std::vector<double> ranked;
    std::transform(competing.begin(), competing.end(), std::back_inserter(ranked), score);
    n_kept = nucleus_size(ranked, *options.mass);
  } else if (n_kept < competing.size()) {
    std::nth_element(competing.begin(),
                     competing.begin() + static_cast<int64_t>(n_kept),
                     competing.end(),
                     better);
  }
  competing.resize(n_kept);
  std::sort(competing.begin(), competing.end());
  return competing;
}

Ordinals all_of_level(const GistLayout& layout, int level) {
  Ordinals all(static_cast<size_t>(layout.n_gists(level)));
  std::iota(all.begin(), all.end(), int64_t{0});
  return all;
}

Ordinals children_of(const GistLayout& layout, int level, const Ordinals& kept) {
  Ordinals children;
  for (const int64_t gist : kept) {
    const Range range = layout.children(level, gist);
    for (int64_t child = range.begin; child < range.end; ++child) {
      children.push_back(child);
    }
  }
  return children;
}

/// One choice, from the highest level down. scores_of(level) gives [n_gists(level)].
template <class ScoresOf>
KeptGists descend(const GistLayout& layout,
                  const ScoresOf& scores_of,
                  std::span<const int64_t> top_k,
                  const SelectionOptions& options) {
  const int top = layout.n_levels() - 1;
  KeptGists kept(static_cast<size_t>(top) + 1);
  for (int level = top; level >= 0; --level) {
    const auto i = static_cast<size_t>(level);
    Ordinals competing =
        level == top ? all_of_level(layout, level) : children_of(layout, level + 1, kept[i + 1]);
    kept[i] = keep_best(scores_of(level), std::move(competing), top_k[i], options);
  }
  return kept;
}

/// Softmax over all gists of the level that are numbers; NaN stays NaN.
std::vector<double> softmax_of_level(std::span<const double> scores) {
  std::vector<double> numbers;
  std::copy_if(scores.begin(), scores.end(), std::back_inserter(numbers), [](double score) {
    return !std::isnan(score);
  });
  std::vector<double> shares(scores.begin(), scores.end());
  if (numbers.empty()) {
    return shares;
  }
  const std::vector<float> softmaxed = softmax(numbers);
  auto next = softmaxed.begin();
  for (double& share : shares) {
    share = std::isnan(share) ? share : static_cast<double>(*next++);
  }
  return shares;
}

KeptGists unite(const KeptGists& a, const KeptGists& b) {
  KeptGists both(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    std::set_union(a[i].begin(), a[i].end(), b[i].begin(), b[i].end(), std::back_inserter(both[i]));
  }
  return both;
}

KeptGists select_by_head(const GistLayout& layout,
                         const GroupScores& scores,
                         int64_t group_size,
                         std::span<const int64_t> top_k,
                         const SelectionOptions& options) {
  KeptGists kept(scores.size());
  for (int64_t head = 0; head < group_size; ++head) {
    const auto of_head = [&](int level) {
      const auto n = static_cast<size_t>(layout.n_gists(level));
      return std::span<const double>(scores[static_cast<size_t>(level)])
          .subspan(static_cast<size_t>(head) * n, n);
    };
    kept = unite(kept, descend(layout, of_head, top_k, options));
  }
  return kept;
}

void append_range(std::vector<int64_t>& keys, Range range) {
  for (int64_t key = range.begin; key < range.end; ++key) {
    keys.push_back(key);
  }
}

/// The raw tokens among `range` (indices of the layout), as indices of the sequence.
void append_raw_of(std::vector<int64_t>& keys, const ChunkView& view, Range range) {
  for (int64_t t = range.begin; t < range.end; ++t) {
    if (view.layout.levels()[static_cast<size_t>(t)] == kRawLevel) {
      keys.push_back(view.index(t));
    }
  }
}

void append_kept(std::vector<int64_t>& keys, const ChunkView& view, const KeptGists& kept) {
  for (const int64_t chunk : kept[0]) {
    append_range(keys, view.tokens(chunk));
  }
  for (size_t level = 0; view.has_gists && level < kept.size(); ++level) {
    for (const int64_t gist : kept[level]) {
      keys.push_back(view.layout.gists(static_cast<int>(level))[static_cast<size_t>(gist)]);
    }
  }
}

}  // namespace

std::vector<double> combine_heads(std::span<const double> scores, int64_t group_size, SelectBy by) {
  const size_t n = scores.size() / static_cast<size_t>(group_size);
  const double none = by == SelectBy::kGroupMax ? std::numeric_limits<double>::quiet_NaN() : 0.0;
  std::vector<double> combined(n, none);
  for (size_t head = 0; head < static_cast<size_t>(group_size); ++head) {
    const std::span<const double> row = scores.subspan(head * n, n);
    const std::vector<double> shares = by == SelectBy::kGroupSoftmax
                                           ? softmax_of_level(row)
                                           : std::vector<double>(row.begin(), row.end());
    for (size_t i = 0; i < n; ++i) {
      combined[i] =
          by == SelectBy::kGroupMax ? std::fmax(combined[i], shares[i]) : combined[i] + shares[i];
    }
  }
  return combined;
}

KeptGists select_gists(const GistLayout& layout,
                       const GroupScores& scores,
                       int64_t group_size,
                       std::span<const int64_t> top_k,
                       const SelectionOptions& options) {
  if (options.by == SelectBy::kHead) {
    return select_by_head(layout, scores, group_size, top_k, options);
  }
  GroupScores combined;
  for (const std::vector<double>& level : scores) {
    combined.push_back(combine_heads(level, group_size, options.by));
  }
  const auto of_group = [&](int level) {
    return std::span<const double>(combined[static_cast<size_t>(level)]);
  };
  return descend(layout, of_group, top_k, options);
}

std::vector<int64_t> attended_keys(
    const ChunkView& view, const MaskRule& rule, const KeptGists& kept, int64_t q, bool generated) {
  constexpr int64_t kUnfoldingSink = 3;  // what unfolding uses where the mask's sink is negative
  std::vector<int64_t> keys;
  append_kept(keys, view, kept);
  const Range sinks{0, std::min(rule.sink >= 0 ? rule.sink : kUnfoldingSink, q + 1)};
  append_raw_of(keys, view, sinks);
  if (view.has_gists && !generated) {
    append_range(keys, sinks);
  }
  for (const Range& visible : visible_ranges(view.layout, rule, q)) {
    append_raw_of(keys, view, visible);
  }
  append_raw_of(keys, view, {view.layout.prefix_end(), q + 1});
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

}  // namespace ssa
