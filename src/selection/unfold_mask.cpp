#include "selection/unfold_mask.h"

#include <algorithm>

#include "base/error.h"
#include "selection/best_gists.h"

namespace ssa {
namespace {

/// Scores held at once; more are taken in blocks of queries.
constexpr int64_t kMostScores = int64_t{1} << 24;

Tensor ordinals(const std::vector<int64_t>& values, torch::Device device) {
  return torch::tensor(values, torch::kInt64).to(device);
}

/// For each key the column that brings it in, among the gists of all levels one behind the other.
Tensor choosing_columns(const ChunkView& view, int64_t n_keys, torch::Device device) {
  std::vector<int64_t> column(static_cast<size_t>(n_keys), view.layout.n_gists());
  for (int64_t chunk = 0; chunk < view.layout.n_gists(0); ++chunk) {
    const Range tokens = view.tokens(chunk);
    std::fill(column.begin() + tokens.begin, column.begin() + tokens.end, chunk);
  }
  int64_t next = 0;
  for (int level = 0; view.has_gists && level < view.layout.n_levels(); ++level) {
    for (const int64_t gist : view.layout.gists(level)) {
      column[static_cast<size_t>(gist)] = next++;
    }
  }
  return ordinals(column, device);
}

Tensor parents_of(const GistLayout& layout, int level, torch::Device device) {
  std::vector<int64_t> parents;
  for (int64_t gist = 0; gist < layout.n_gists(level); ++gist) {
    const int64_t parent = layout.parent(level, gist);
    parents.push_back(parent < 0 ? layout.n_gists(level + 1) : parent);
  }
  return ordinals(parents, device);
}

/// With a column behind the last that is false everywhere.
Tensor with_none(const std::vector<Tensor>& kept) {
  std::vector<Tensor> columns = kept;
  std::vector<int64_t> sizes = kept.front().sizes().vec();
  sizes.back() = 1;
  columns.push_back(torch::zeros(sizes, kept.front().options()));
  return torch::cat(columns, -1);
}

/// The heads' scores as one: [n_kv_heads, n_queries, 1, n], in double as combine_heads().
Tensor combined(const Tensor& scores, SelectBy by) {
  Tensor all = scores.select(2, 0).to(torch::kFloat64);
  for (int64_t head = 1; head < scores.size(2); ++head) {
    const Tensor other = scores.select(2, head).to(torch::kFloat64);
    all = by == SelectBy::kGroupMax ? torch::fmax(all, other) : all + other;
  }
  return all.unsqueeze(2);
}

}  // namespace

Tensor always_attended(const ChunkView& view, const MaskRule& rule, const SuffixQueries& queries) {
  const int64_t n_keys = queries.range.end;
  // Without gists in the sequence all of the layout's lie before the suffix.
  const int64_t shift = view.has_gists ? 0 : view.layout.n_gists();
  const KeptGists nothing(static_cast<size_t>(view.layout.n_levels()));
  Tensor mask = torch::zeros({queries.range.size(), n_keys}, torch::kBool);
  auto* row = mask.mutable_data_ptr<bool>();
  for (int64_t q = queries.range.begin; q < n_keys; ++q, row += n_keys) {
    for (const int64_t key : attended_keys(view, rule, nothing, q + shift, q >= queries.n_prompt)) {
      row[key] = true;
    }
  }
  return mask;
}

UnfoldMask::UnfoldMask(const ChunkView& view,
                       const MaskRule& rule,
                       const SelectionOptions& options,
                       const SuffixQueries& queries,
                       int64_t group_size,
                       torch::Device device)
    : view_(view),
      options_(options),
      always_(always_attended(view, rule, queries).to(device)),
      chooser_(choosing_columns(view, queries.range.end, device)) {
  check(!options.mass, "selection by mass is not offered for all queries of a suffix at once");
  check(options.by != SelectBy::kGroupSoftmax,
        "selection by group-softmax is not offered for all queries of a suffix at once");
  const GistLayout& layout = view.layout;
  for (int level = 0; level < layout.n_levels(); ++level) {
    parents_.push_back(level + 1 < layout.n_levels() ? parents_of(layout, level, device)
                                                     : Tensor());
    std::vector<int64_t> top_k;
    for (int64_t q = queries.range.begin; q < queries.range.end; ++q) {
      const int64_t n_tokens = std::max(queries.n_prompt, q + 1);
      top_k.push_back(top_k_of_level(
          options, level, n_tokens, layout.n_gists(level), group_size, layout.chunk_sizes()));
    }
    top_k_.push_back(top_k_tensor(top_k, device));
  }
}

UnfoldMask::TopK UnfoldMask::top_k_tensor(std::span<const int64_t> of_query, torch::Device device) {
  const int64_t largest =
      of_query.empty() ? 1 : *std::max_element(of_query.begin(), of_query.end());
  return {ordinals({of_query.begin(), of_query.end()}, device), largest};
}

std::vector<UnfoldMask::TopK> UnfoldMask::top_k_or(std::span<const int64_t> given,
                                                   torch::Device device) const {
  if (given.empty()) {
    return top_k_;
  }
  TORCH_CHECK(static_cast<int64_t>(given.size()) == always_.size(0), "unfold_mask: top_k");
  const TopK everywhere = top_k_tensor(given, device);
  std::vector<TopK> top_k(top_k_.size(), everywhere);
  for (size_t level = 2; level < top_k.size(); ++level) {
    top_k[level] = {torch::maximum(everywhere.of_query, top_k_[level].of_query),
                    std::max(everywhere.largest, top_k_[level].largest)};
  }
  return top_k;
}

std::vector<Tensor> UnfoldMask::kept_of_block(const Tensor& q,
                                              const PivotBank& pivots,
                                              const std::vector<TopK>& top_k,
                                              Range rows) const {
  std::vector<Tensor> kept = pivots.grouped_scores(q.slice(0, rows.begin, rows.end));
  for (size_t level = kept.size(); level-- > 0;) {
    Tensor scores = kept[level];
    if (options_.by != SelectBy::kHead) {
      scores = combined(scores, options_.by);
    }
    const Tensor competing = level + 1 == kept.size()
                                 ? torch::ones(scores.sizes(), scores.options().dtype(torch::kBool))
                                 : with_none({kept[level + 1]}).index_select(3, parents_[level]);
    kept[level] =
        best_gists(scores,
                   competing,
                   top_k[level].of_query.slice(0, rows.begin, rows.end).view({1, -1, 1, 1}),
                   top_k[level].largest);
  }
  for (Tensor& level : kept) {
    level = level.any(2);
  }
  return kept;
}

std::vector<Tensor> UnfoldMask::kept(const Tensor& q,
                                     const PivotBank& pivots,
                                     std::span<const int64_t> given_top_k) const {
  const torch::NoGradGuard no_grad;
  const std::vector<TopK> top_k = top_k_or(given_top_k, q.device());
  const int64_t n_queries = q.size(0);
  TORCH_CHECK(n_queries == always_.size(0), "unfold_mask: ", n_queries, " queries");
  const int64_t a_query = q.size(1) * std::max<int64_t>(1, view_.layout.n_gists(0));
  const int64_t block = std::max<int64_t>(1, kMostScores / a_query);
  std::vector<std::vector<Tensor>> blocks(static_cast<size_t>(view_.layout.n_levels()));
  for (int64_t begin = 0; begin < std::max<int64_t>(1, n_queries); begin += block) {
    std::vector<Tensor> part =
        kept_of_block(q, pivots, top_k, {begin, std::min(begin + block, n_queries)});
    for (size_t level = 0; level < part.size(); ++level) {
      blocks[level].push_back(std::move(part[level]));
    }
  }
  std::vector<Tensor> kept;
  for (const auto& level : blocks) {
    kept.push_back(level.size() == 1 ? level.front() : torch::cat(level, 1));
  }
  return kept;
}

Tensor UnfoldMask::attended(const std::vector<Tensor>& kept) const {
  return with_none(kept).index_select(2, chooser_).logical_or_(always_);
}

Tensor UnfoldMask::attended(const Tensor& q, const Tensor& k) const {
  const torch::NoGradGuard no_grad;
  return attended(kept(q, PivotBank(view_, options_.pivot, k)));
}

Tensor unfold_mask(const Tensor& q,
                   const Tensor& k,
                   const GistLayout& layout,
                   const MaskRule& rule,
                   const SelectionOptions& options) {
  const int64_t n = layout.n_tokens();
  const UnfoldMask mask(
      {layout, true}, rule, options, {{n - q.size(0), n}, n}, q.size(1) / k.size(0), q.device());
  return mask.attended(q, k);
}

}  // namespace ssa
