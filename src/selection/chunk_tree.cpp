#include "selection/chunk_tree.h"

#include <algorithm>
#include <limits>

#include "selection/best_gists.h"

namespace ssa {
namespace {

/// Rows of numbers as a tensor: [rows.size(), n] int64.
Tensor index_rows(const std::vector<std::vector<int64_t>>& rows, torch::Device device) {
  std::vector<Tensor> tensors;
  for (const auto& row : rows) {
    tensors.push_back(torch::tensor(row, torch::kInt64));
  }
  return torch::stack(tensors).to(device);
}

int64_t most_gists(std::span<const ChunkView> views, int level) {
  int64_t most = 0;
  for (const ChunkView& view : views) {
    most = std::max(most, view.layout.n_gists(level));
  }
  return most;
}

Tensor padded_parents(std::span<const ChunkView> views, int level, torch::Device device) {
  const int64_t none = most_gists(views, level + 1);
  std::vector<std::vector<int64_t>> parents;
  for (const ChunkView& view : views) {
    parents.emplace_back(static_cast<size_t>(most_gists(views, level)), none);
    for (int64_t gist = 0; gist < view.layout.n_gists(level); ++gist) {
      const int64_t parent = view.layout.parent(level, gist);
      parents.back()[static_cast<size_t>(gist)] = parent < 0 ? none : parent;
    }
  }
  return index_rows(parents, device);
}

/// With a column behind the last that is false everywhere.
Tensor with_false_column(const Tensor& kept) {
  return torch::constant_pad_nd(kept, {0, 1});
}

/// The place of each score along the last dimension, best first; behind all where not eligible.
Tensor places_by_score(const Tensor& scores, const Tensor& eligible) {
  const Tensor hidden = eligible.logical_not();
  const Tensor order =
      torch::argsort(scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()),
                     /*stable=*/true,
                     -1,
                     /*descending=*/true);
  const int64_t n = scores.size(-1);
  const Tensor place = torch::arange(n, order.options()).expand_as(order);
  return torch::empty_like(order).scatter_(-1, order, place).masked_fill_(hidden, n);
}

}  // namespace

ChunkTree::ChunkTree(std::span<const ChunkView> views,
                     int64_t n_keys,
                     int64_t n_kv_heads,
                     torch::Device device)
    : n_kv_heads_(n_kv_heads), n_gists_(0) {
  const int n_levels = views.front().layout.n_levels();
  std::vector<int64_t> first;  // column of each level
  for (int level = 0; level < n_levels; ++level) {
    parents_.push_back(level + 1 < n_levels ? padded_parents(views, level, device) : Tensor());
    first.push_back(n_gists_);
    n_gists_ += most_gists(views, level);
  }
  std::vector<std::vector<int64_t>> columns;
  for (const ChunkView& view : views) {
    std::vector<int64_t>& column = columns.emplace_back(static_cast<size_t>(n_keys), n_gists_);
    for (int64_t chunk = 0; chunk < view.layout.n_gists(0); ++chunk) {
      const Range tokens = view.tokens(chunk);
      std::fill(column.begin() + tokens.begin, column.begin() + tokens.end, chunk);
    }
    for (int level = 0; view.has_gists && level < n_levels; ++level) {
      int64_t next = first[static_cast<size_t>(level)];
      for (const int64_t gist : view.layout.gists(level)) {
        column[static_cast<size_t>(gist)] = next++;
      }
    }
  }
  column_of_key_ = index_rows(columns, device);
}

Tensor ChunkTree::for_rows(const Tensor& x, at::IntArrayRef sizes) const {
  std::vector<int64_t> split = sizes.vec();  // [n_prompts, n_kv_heads, ...]
  split[0] = n_kv_heads_;
  split.insert(split.begin(), x.size(0));
  split.back() = x.size(1);
  std::vector<int64_t> ones(split.size(), 1);
  ones.front() = x.size(0);
  ones.back() = x.size(1);
  return x.view(ones).expand(split).flatten(0, 1);
}

ChunkTree::Ranked ChunkTree::rank(std::vector<Tensor> scores) const {
  const Tensor top = places_by_score(scores.back(), scores.back().isnan().logical_not());
  return {std::move(scores), top};
}

Tensor ChunkTree::competing(size_t level, const Tensor& scores, const Tensor& above) const {
  return above.defined()
             ? with_false_column(above).gather(3, for_rows(parents_[level], scores.sizes()))
             : torch::ones(scores.sizes(), scores.options().dtype(torch::kBool));
}

Tensor ChunkTree::kept(const Ranked& ranked, const std::vector<Tensor>& top_k) const {
  std::vector<Tensor> levels(ranked.scores.size());
  for (size_t level = levels.size(); level-- > 0;) {
    const Tensor& scores = ranked.scores[level];
    const int64_t n = scores.size(3);
    Tensor place = ranked.top;
    if (level + 1 < levels.size()) {
      place = places_by_score(
          scores,
          competing(level, scores, levels[level + 1]).logical_and_(scores.isnan().logical_not()));
    }
    const Tensor most = top_k[level].clamp_max(n).unsqueeze(1);  // [n_prompts, 1, n_rows]
    levels[level] =
        (place.unflatten(0, {-1, n_kv_heads_}) < most.unsqueeze(3).unsqueeze(4)).flatten(0, 1);
  }
  return (levels.size() == 1 ? levels.front() : torch::cat(levels, 3)).any(2);
}

Tensor ChunkTree::kept(const std::vector<Tensor>& scores,
                       const std::vector<Tensor>& top_k,
                       std::span<const int64_t> largest_top_k) const {
  std::vector<Tensor> levels(scores.size());
  for (size_t level = levels.size(); level-- > 0;) {
    const Tensor above = level + 1 < levels.size() ? levels[level + 1] : Tensor();
    const Tensor places = top_k[level].repeat_interleave(n_kv_heads_, 0);  // [n_heads, n_rows]
    levels[level] = best_gists(scores[level],
                               competing(level, scores[level], above),
                               places.unsqueeze(2).unsqueeze(3),
                               largest_top_k[level]);
  }
  return (levels.size() == 1 ? levels.front() : torch::cat(levels, 3)).any(2);
}

Tensor ChunkTree::keys(const Tensor& kept) const {
  if (column_of_key_.size(0) == 1) {
    return with_false_column(kept).index_select(2, column_of_key_[0]);
  }
  return with_false_column(kept).gather(2, for_rows(column_of_key_, kept.sizes()));
}

Tensor ChunkTree::added_keys(const Tensor& always) const {
  const auto counts = always.options().dtype(torch::kFloat32);
  const Tensor columns = column_of_key_.unsqueeze(1).expand(always.sizes());
  return torch::zeros({always.size(0), always.size(1), n_gists_ + 1}, counts)
      .scatter_add_(2, columns, always.logical_not().to(torch::kFloat32))
      .narrow(2, 0, n_gists_);
}

}  // namespace ssa
