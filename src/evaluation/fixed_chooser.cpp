#include "evaluation/fixed_chooser.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "evaluation/chosen_number.h"

namespace ssa {
namespace {

constexpr int64_t kStreamingSinks = 4;  // arXiv 2309.17453

}  // namespace

void FixedChooser::begin_pass(const SuffixRows& rows) {
  n_rows_ = rows.size();
  if (n_keys_.defined()) {
    return;
  }
  const auto whole = torch::TensorOptions().dtype(torch::kInt64).device(frame_.device);
  std::vector<int64_t> ends;
  Tensor n_keys = torch::empty({frame_.n_layers, frame_.n_prompts(), 1}, torch::kInt64);
  auto by_layer = n_keys.accessor<int64_t, 3>();
  for (int64_t i = 0; i < frame_.n_prompts(); ++i) {
    const auto prompt = static_cast<size_t>(i);
    ends.push_back(frame_.prompts[prompt].prefix_end);
    const std::vector<double> wanted =
        wanted_prefix_keys(stream_, frame_, prompt, rows.lengths[prompt]);
    for (int64_t layer = 0; layer < frame_.n_layers; ++layer) {
      by_layer[layer][i][0] =
          std::clamp<int64_t>(std::lround(wanted[static_cast<size_t>(layer)]), 0, ends.back());
    }
  }
  n_keys_ = n_keys.to(frame_.device);
  end_ = torch::tensor(ends, torch::kInt64).unsqueeze(1).to(frame_.device);
  key_ = torch::arange(frame_.width(), whole);
}

Tensor FixedChooser::attended(int64_t layer, const Tensor& /*q*/, const Tensor& /*keys*/) {
  Tensor& prefix = prefix_[static_cast<size_t>(layer)];
  if (!prefix.defined()) {
    prefix = choose(layer, n_keys_[layer]);
  }
  return prefix.unsqueeze(1).expand({prefix.size(0), n_rows_, prefix.size(1)});
}

Tensor WindowChooser::choose(int64_t /*layer*/, const Tensor& n) const {
  const Tensor n_sinks = n.clamp_max(kStreamingSinks);
  const Tensor last = (key_ >= end_ - (n - n_sinks)).logical_and_(key_ < end_);
  return frame_.for_heads(last.logical_or_(key_ < n_sinks));
}

Tensor HeavyChooser::choose(int64_t layer, const Tensor& n) const {
  const Tensor n_recent = n.div(2, "floor"), older = end_ - n_recent;
  const Tensor recent = (key_ >= older).logical_and_(key_ < end_);  // [n_prompts, width]
  const Tensor candidates = received_[static_cast<size_t>(layer)].masked_fill(
      frame_.for_heads(key_ >= older), -std::numeric_limits<double>::infinity());
  const Tensor order = torch::argsort(candidates, /*stable=*/true, /*dim=*/-1, /*descending=*/true);
  const Tensor heaviest = frame_.for_heads(key_ < torch::minimum(n - n_recent, older));
  return torch::zeros_like(heaviest)
      .scatter_(1, order, heaviest)
      .logical_or_(frame_.for_heads(recent));
}

}  // namespace ssa
