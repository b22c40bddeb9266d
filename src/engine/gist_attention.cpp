#include "engine/gist_attention.h"

#include <algorithm>

namespace ssa {
namespace {

/// Lists of different length as one tensor, padded with -1: [n_queries, n_kv_heads, longest].
Tensor pad_lists(const std::vector<std::vector<int64_t>>& lists,
                 int64_t n_kv_heads,
                 torch::Device device) {
  size_t longest = 0;
  for (const auto& list : lists) {
    longest = std::max(longest, list.size());
  }
  Tensor padded = torch::full(
      {static_cast<int64_t>(lists.size()), static_cast<int64_t>(longest)}, -1, torch::kInt64);
  auto* out = padded.mutable_data_ptr<int64_t>();
  for (const auto& list : lists) {
    std::copy(list.begin(), list.end(), out);
    out += longest;
  }
  return padded.unflatten(0, {-1, n_kv_heads}).to(device);
}

}  // namespace

GistAttention::GistAttention(KvCache cache, GistLayout prompt, const GistAttentionOptions& options)
    : ChunkedAttention(std::move(prompt), options),
      cache_(std::move(cache)),
      banks_(static_cast<size_t>(cache_.n_layers())) {}

void GistAttention::rewind(int64_t length) {
  cache_.truncate(length);
  banks_.assign(banks_.size(), std::nullopt);
}

void GistAttention::begin_pass(int64_t first, std::span<const int64_t> ids) {
  ChunkedAttention::begin_pass(first, ids);
  mask_ = Tensor();
  if (layout_.n_gists() != n_banked_) {
    n_banked_ = layout_.n_gists();
    banks_.assign(banks_.size(), std::nullopt);
  }
}

Tensor GistAttention::attend(int64_t layer, const AttentionInput& in) {
  cache_.append(layer, in.k, in.v);
  switch (rule_of(layer)) {
    case Rule::kDense:
      return dense_attention(in.q, cache_.keys(layer), cache_.values(layer), in.scale);
    case Rule::kMasked:
      return masked_attention(
          in.q, cache_.keys(layer), cache_.values(layer), pass_mask(in.q.device()), in.scale);
    case Rule::kUnfold:
      return unfold(layer, in);
  }
  TORCH_INTERNAL_ASSERT(false, "attention without a rule");
}

const Tensor& GistAttention::pass_mask(torch::Device device) {
  if (!mask_.defined()) {
    Tensor mask = torch::zeros({n_pass_, first_ + n_pass_}, torch::kBool);
    auto* row = mask.mutable_data_ptr<bool>();
    for (int64_t q = first_; q < first_ + n_pass_; ++q, row += first_ + n_pass_) {
      for (const Range& range : visible_ranges(layout_, options_.rule, q)) {
        std::fill(row + range.begin, row + range.end, true);
      }
    }
    mask_ = mask.to(device);
  }
  return mask_;
}

Tensor GistAttention::unfold(int64_t layer, const AttentionInput& in) {
  const ChunkView view{layout_, options_.has_gists};
  std::optional<PivotBank>& bank = banks_[static_cast<size_t>(layer)];
  if (!bank) {
    bank.emplace(view, options_.selection.pivot, cache_.keys(layer));
  }
  const std::vector<Tensor> scores = bank->scores(in.q);
  const int64_t n_kv_heads = in.k.size(1), group_size = in.q.size(1) / n_kv_heads;
  std::vector<std::vector<int64_t>> lists;
  for (int64_t row = 0; row < n_pass_; ++row) {
    for (int64_t kv_head = 0; kv_head < n_kv_heads; ++kv_head) {
      lists.push_back(choose(layer, row, kv_head, group_size, scores));
    }
  }
  return sparse_attention(in.q,
                          cache_.keys(layer),
                          cache_.values(layer),
                          pad_lists(lists, n_kv_heads, in.q.device()),
                          in.scale);
}

std::vector<int64_t> GistAttention::choose(int64_t layer,
                                           int64_t row,
                                           int64_t kv_head,
                                           int64_t group_size,
                                           const std::vector<Tensor>& scores) {
  const int64_t index = first_ + row;
  const bool generated = index >= n_prompt_;
  const int64_t n_tokens = generated ? index + 1 : n_prompt_;
  GroupScores of_group;
  std::vector<int64_t> top_k;
  for (int level = 0; level < layout_.n_levels(); ++level) {
    const Tensor& all = scores[static_cast<size_t>(level)];  // [n_queries, n_heads, n_gists]
    const int64_t n_gists = all.size(2);
    const double* begin =
        all.const_data_ptr<double>() + (row * all.size(1) + kv_head * group_size) * n_gists;
    of_group.emplace_back(begin, begin + group_size * n_gists);
    top_k.push_back(top_k_of_level(
        options_.selection, level, n_tokens, n_gists, group_size, layout_.chunk_sizes()));
  }
  const KeptGists kept = select_gists(layout_, of_group, group_size, top_k, options_.selection);
  const ChunkView view{layout_, options_.has_gists};
  std::vector<int64_t> keys =
      attended_keys(view, options_.rule, kept, layout_index(index), generated);
  if (observer_ != nullptr) {
    observer_->on_selection(layer, index, kv_head, kept, static_cast<int64_t>(keys.size()));
  }
  return keys;
}

}  // namespace ssa
