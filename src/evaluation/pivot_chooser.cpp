#include "evaluation/pivot_chooser.h"

#include <algorithm>
#include <cmath>

#include "evaluation/chosen_number.h"
#include "selection/unfold_mask.h"

namespace ssa {
namespace {

/// Between 0 and 1, and 0 where there is nothing to share out.
Tensor share_of(const Tensor& missing, const Tensor& step) {
  return (missing / step).clamp(0, 1).masked_fill(step <= 0, 0);
}

}  // namespace

PivotChooser::PivotChooser(std::span<const StreamMethod> methods,
                           int64_t first_stream,
                           SuffixFrame frame)
    : KeyChooser({first_stream, first_stream + static_cast<int64_t>(methods.size())}),
      methods_(methods.begin(), methods.end()),
      frame_(std::move(frame)),
      tree_(views(), frame_.width(), frame_.n_kv_heads, frame_.device),
      sets_budgets_(methods.front().method.sets_budget()),
      most_chunks_(1),
      pivots_(std::make_shared<PivotIndex>(views(), methods.front().method.pivot, frame_.device)),
      always_(always_attended()),
      banks_(static_cast<size_t>(frame_.n_layers)),
      places_(static_cast<size_t>(frame_.n_layers)) {
  for (const PromptFrame& prompt : frame_.prompts) {
    most_chunks_ = std::max(most_chunks_, prompt.layout->n_gists(0));
  }
}

std::vector<ChunkView> PivotChooser::views() const {
  std::vector<ChunkView> views;
  for (const PromptFrame& prompt : frame_.prompts) {
    views.push_back({*prompt.layout, frame_.has_gists});
  }
  return views;
}

/// A prompt too short for a chunk attends what it would without choosing.
Tensor PivotChooser::always_attended() const {
  const EvalMethod& method = methods_.front().method;
  return stack_places(frame_, [&](const PromptFrame& prompt) {
    const Range places{prompt.prefix_end, prompt.sequence_end};
    if (!chooses(method, prompt)) {
      return shown_prefix(frame_, prompt, places);
    }
    const UnfoldMask mask({*prompt.layout, frame_.has_gists},
                          frame_.rule,
                          selection_of(method),
                          {places, prompt.n_prompt},
                          frame_.group_size,
                          torch::kCPU);
    return mask.always().narrow(1, 0, prompt.prefix_end);
  });
}

void PivotChooser::begin_pass(const SuffixRows& rows) {
  const auto here = [&](const auto& values, torch::ScalarType type) {
    return torch::tensor(values, type).view({frame_.n_prompts(), rows.size()}).to(frame_.device);
  };
  const auto n_levels = tree_.n_levels();
  std::vector<int64_t> places;
  std::vector<double> spread;
  std::vector<std::vector<int64_t>> ruled(n_levels);
  for (size_t i = 0; i < rows.places.size(); ++i) {
    const PromptFrame& prompt = frame_.prompts[i];
    for (size_t row = 0; row < rows.streams.size(); ++row) {
      const int64_t index = prompt.prefix_end + rows.places[i][row];
      const auto stream = static_cast<size_t>(rows.streams[row] - streams().begin);
      constexpr double kGolden = 0.6180339887498949;  // spreads a share evenly over the queries
      places.push_back(rows.places[i][row]);
      spread.push_back(std::fmod(static_cast<double>(index) * kGolden, 1.0));
      for (size_t level = 0; level < n_levels; ++level) {
        ruled[level].push_back(ruled_top_k(
            methods_[stream].method, frame_, prompt, static_cast<int>(level), index + 1));
      }
    }
  }
  const Tensor place = here(places, torch::kInt64).unsqueeze(2);
  rows_.always = always_.gather(1, place.expand({frame_.n_prompts(), rows.size(), frame_.width()}));
  rows_.stream = (torch::tensor(rows.streams, torch::kInt64) - streams().begin).to(frame_.device);
  rows_.spread = here(spread, torch::kFloat64);
  rows_.ruled.clear();
  for (const std::vector<int64_t>& level : ruled) {
    rows_.ruled.push_back(here(level, torch::kInt64));
  }
  if (!sets_budgets_ && !target_.wanted.defined()) {
    set_target(rows);
  }
}

void PivotChooser::set_target(const SuffixRows& rows) {
  const auto n_streams = static_cast<int64_t>(methods_.size());
  TORCH_CHECK(rows.size() % n_streams == 0, "key chooser: suffixes of unequal length");
  std::vector<double> wanted;  // [n_prompts][n_streams][n_layers]
  for (size_t prompt = 0; prompt < rows.places.size(); ++prompt) {
    for (const StreamMethod& method : methods_) {
      const std::vector<double> keys =
          wanted_prefix_keys(method, frame_, prompt, rows.lengths[prompt]);
      wanted.insert(wanted.end(), keys.begin(), keys.end());
    }
  }
  target_.wanted = torch::tensor(wanted, torch::kFloat64)
                       .view({frame_.n_prompts(), n_streams, frame_.n_layers})
                       .permute({2, 0, 1})
                       .contiguous()
                       .to(frame_.device);
  target_.n_rows = torch::tensor(rows.lengths, torch::kInt64).unsqueeze(1).to(frame_.device);
  const Tensor row = torch::arange(rows.size() / n_streams, target_.n_rows.options());
  const Tensor counts = (row < target_.n_rows).repeat({1, n_streams});  // [n_prompts, n_rows]
  target_.added = tree_.added_keys(rows_.always).mul_(counts.unsqueeze(2));
  target_.n_always = a_query(rows_.always.sum(2).mul_(counts));
}

/// Sums over rows [n_prompts, n_rows] as means over each stream's queries: [n_prompts, n_streams].
Tensor PivotChooser::a_query(const Tensor& sums) const {
  return sums.to(torch::kFloat64)
      .unflatten(1, {static_cast<int64_t>(methods_.size()), -1})
      .sum(2)
      .div_(target_.n_rows);
}

/// Given for levels 0 and 1; levels above keep no fewer than the specification's.
std::vector<Tensor> PivotChooser::by_level(const Tensor& top_k) const {
  std::vector<Tensor> levels(rows_.ruled.size(), top_k);
  for (size_t level = 2; level < levels.size(); ++level) {
    levels[level] = torch::maximum(top_k, rows_.ruled[level]);
  }
  return levels;
}

Tensor PivotChooser::spread_out(const Places& places) const {
  const Tensor one_more = rows_.spread < places.share.index_select(1, rows_.stream);
  return places.top_k.index_select(1, rows_.stream) + one_more;
}

/// Keys of the prefix that each stream's queries attend on average: [n_prompts, n_streams].
Tensor PivotChooser::mean_attended(const ChunkTree::Ranked& ranked, const Tensor& top_k) const {
  const Tensor kept =
      tree_.kept(ranked, by_level(top_k.index_select(1, rows_.stream)));  // [n_heads, rows, gists]
  const Tensor added = kept.unflatten(0, {frame_.n_prompts(), -1})
                           .mul(target_.added.unsqueeze(1))
                           .sum({1, 3}, /*keepdim=*/false, torch::kFloat64);
  return a_query(added).div_(frame_.n_kv_heads) + target_.n_always;
}

/// The same for every number of places from 1 on, where there is one level: a gist is kept from the
/// place on that the best of its heads gives it. [n_prompts, n_streams, most_chunks]
Tensor PivotChooser::attended_by_number(const ChunkTree::Ranked& ranked) const {
  const auto n_streams = static_cast<int64_t>(methods_.size());
  const Tensor first = ranked.top.amin(2)
                           .unflatten(0, {frame_.n_prompts(), -1})
                           .unflatten(2, {n_streams, -1})
                           .transpose(1, 2);  // [n_prompts, n_streams, n_kv_heads, rows, gists]
  const Tensor added = target_.added.unflatten(1, {n_streams, -1})
                           .unsqueeze(2)
                           .expand(first.sizes())
                           .to(torch::kFloat64);
  const int64_t n = ranked.top.size(3);
  // Whole numbers in float64: however they are added up, the sum is the same.
  const Tensor by_place = torch::zeros({frame_.n_prompts(), n_streams, n + 1}, added.options())
                              .scatter_add_(2, first.flatten(2), added.flatten(2));
  const Tensor keys = by_place.narrow(2, 0, n).cumsum(2);
  return keys / target_.n_rows.unsqueeze(2) / static_cast<double>(frame_.n_kv_heads) +
         target_.n_always.unsqueeze(2);
}

PivotChooser::Places PivotChooser::fit_one_level(const ChunkTree::Ranked& ranked,
                                                 const Tensor& wanted) const {
  const Tensor keys = attended_by_number(ranked);
  const Tensor top_k =
      (keys <= wanted.unsqueeze(2)).sum(2).clamp(1, most_chunks_);  // rising in the number
  const auto at = [&](const Tensor& number) {
    return keys.gather(2, (number - 1).unsqueeze(2)).squeeze(2);
  };
  const Tensor here = at(top_k);
  return {top_k, share_of(wanted - here, at((top_k + 1).clamp_max(most_chunks_)) - here)};
}

/// The places with which the queries of this pass attend as many keys as wanted, on average. With
/// several levels by a search that all streams make together, with as many steps as the longest
/// may need.
PivotChooser::Places PivotChooser::fit(const ChunkTree::Ranked& ranked,
                                       const Tensor& wanted) const {
  if (tree_.n_levels() == 1 && ranked.top.size(3) > 0) {
    return fit_one_level(ranked, wanted);
  }
  Tensor low = torch::ones_like(wanted, torch::kInt64), high = torch::full_like(low, most_chunks_);
  for (int64_t reach = 1; reach < most_chunks_; reach *= 2) {
    const Tensor middle = (low + high + 1).div(2, "floor");
    const Tensor fits = mean_attended(ranked, middle) <= wanted;
    low = torch::where(fits, middle, low);
    high = torch::where(fits, high, middle - 1).clamp_min(1);
  }
  const Tensor keys = mean_attended(ranked, low);
  const Tensor step = mean_attended(ranked, (low + 1).clamp_max(most_chunks_)) - keys;
  return {low, share_of(wanted - keys, step)};
}

Tensor PivotChooser::attended(int64_t layer, const Tensor& q, const Tensor& keys) {
  const auto i = static_cast<size_t>(layer);
  if (!banks_[i]) {
    banks_[i].emplace(pivots_, keys);
  }
  const ChunkTree::Ranked ranked = tree_.rank(banks_[i]->grouped_scores(q));
  if (!sets_budgets_ && !places_[i].top_k.defined()) {
    places_[i] = fit(ranked, target_.wanted[layer]);
  }
  const Tensor kept =
      tree_.kept(ranked, sets_budgets_ ? rows_.ruled : by_level(spread_out(places_[i])));
  return tree_.keys(kept).logical_or_(frame_.for_heads(rows_.always));
}

}  // namespace ssa
