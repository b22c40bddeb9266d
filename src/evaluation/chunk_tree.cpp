#include "evaluation/chunk_tree.h"

#include <algorithm>
#include <limits>

namespace ssa {
namespace {

Tensor index_tensor(const std::vector<int64_t>& values, torch::Device device) {
  return torch::tensor(values, torch::kInt64).to(device);
}

Tensor parents_of(const GistLayout& layout, int level, torch::Device device) {
  std::vector<int64_t> parents;
  for (int64_t gist = 0; gist < layout.n_gists(level); ++gist) {
    const int64_t parent = layout.parent(level, gist);
    parents.push_back(parent < 0 ? layout.n_gists(level + 1) : parent);
  }
  return index_tensor(parents, device);
}

/// With a column behind the last that is false everywhere.
Tensor with_none(const Tensor& kept) {
  return torch::constant_pad_nd(kept, {0, 1});
}

/// The place of each score along the last dimension, best first; behind all where not eligible.
Tensor places(const Tensor& scores, const Tensor& eligible) {
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

ChunkTree::ChunkTree(const ChunkView& view, int64_t n_keys, torch::Device device)
    : n_gists_(view.layout.n_gists()) {
  const GistLayout& layout = view.layout;
  std::vector<int64_t> column(static_cast<size_t>(n_keys), n_gists_);
  for (int64_t chunk = 0; chunk < layout.n_gists(0); ++chunk) {
    const Range tokens = view.tokens(chunk);
    std::fill(column.begin() + tokens.begin, column.begin() + tokens.end, chunk);
  }
  int64_t next = 0;
  for (int level = 0; level < layout.n_levels(); ++level) {
    parents_.push_back(level + 1 < layout.n_levels() ? parents_of(layout, level, device)
                                                     : Tensor());
    for (const int64_t gist : layout.gists(level)) {
      if (view.has_gists) {
        column[static_cast<size_t>(gist)] = next;
      }
      ++next;
    }
  }
  column_of_key_ = index_tensor(column, device);
}

ChunkTree::Ranked ChunkTree::rank(std::vector<Tensor> scores) const {
  const Tensor top = places(scores.back(), scores.back().isnan().logical_not());
  return {std::move(scores), top};
}

Tensor ChunkTree::kept(const Ranked& ranked, const std::vector<Tensor>& top_k) const {
  std::vector<Tensor> levels(ranked.scores.size());
  for (size_t level = levels.size(); level-- > 0;) {
    const Tensor& scores = ranked.scores[level];
    const int64_t n = scores.size(3);
    Tensor place = ranked.top;
    if (level + 1 < levels.size()) {
      const Tensor competing = with_none(levels[level + 1]).index_select(3, parents_[level]);
      place = places(scores, competing.logical_and_(scores.isnan().logical_not()));
    }
    levels[level] = place < top_k[level].clamp_max(n).view({1, -1, 1, 1});
  }
  return (levels.size() == 1 ? levels.front() : torch::cat(levels, 3)).any(2);
}

Tensor ChunkTree::keys(const Tensor& kept) const {
  return with_none(kept).index_select(2, column_of_key_);
}

Tensor ChunkTree::added_keys(const Tensor& always) const {
  const auto counts = always.options().dtype(torch::kFloat32);
  return torch::zeros({always.size(0), n_gists_ + 1}, counts)
      .index_add_(1, column_of_key_, always.logical_not().to(torch::kFloat32))
      .narrow(1, 0, n_gists_);
}

}  // namespace ssa
