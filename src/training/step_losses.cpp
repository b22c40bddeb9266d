#include "training/step_losses.h"

#include <algorithm>
#include <string_view>
#include <vector>

namespace ssa {
namespace {

/// As kLossNames, and behind them the streams' shares.
std::vector<Tensor> in_order(const Losses& losses) {
  return {losses.total,
          losses.lm,
          losses.cpt,
          losses.sft,
          losses.distill,
          losses.route,
          losses.align,
          losses.ce,
          losses.full,
          losses.sparse,
          losses.alignment,
          losses.kept,
          torch::scalar_tensor(losses.full_targets, torch::kFloat64),
          torch::scalar_tensor(losses.sparse_targets, torch::kFloat64)};
}

}  // namespace

StepLosses::StepLosses(torch::Device device)
    : sums_(torch::zeros({static_cast<int64_t>(kLossNames.size()) + 2},
                         torch::dtype(torch::kFloat64).device(device))) {}

void StepLosses::add(const Losses& losses) {
  const std::vector<Tensor> parts = in_order(losses);
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].defined()) {
      sums_[static_cast<int64_t>(i)].add_(parts[i]);
    }
  }
}

std::array<double, kLossNames.size()> StepLosses::values() const {
  constexpr size_t kFull = 8;  // the streams' places
  static_assert(std::string_view(kLossNames[kFull]) == "full" &&
                std::string_view(kLossNames[kFull + 1]) == "sparse");
  const Tensor host = sums_.cpu();
  const double* sums = host.const_data_ptr<double>();
  std::array<double, kLossNames.size()> values = {};
  std::copy_n(sums, values.size(), values.begin());
  for (size_t stream = 0; stream < 2; ++stream) {  // a mean over the targets that the stream got
    const double share = sums[kLossNames.size() + stream];
    values[kFull + stream] = share > 0 ? values[kFull + stream] / share : 0.0;
  }
  return values;
}

}  // namespace ssa
