#include "training/optimizer.h"

#include <ATen/ops/_fused_adamw.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace ssa {
namespace {

/// Shares begin where vector loads are aligned.
constexpr int64_t kShareUnit = 256;

}  // namespace

AdamW::AdamW(std::vector<NamedParameter> parameters,
             const AdamWOptions& options,
             std::shared_ptr<ProcessGroup> group)
    : parameters_(std::move(parameters)), options_(options), group_(std::move(group)) {
  check(!parameters_.empty(), "there is nothing to train: no parameter asks for gradients");
  const torch::NoGradGuard no_grad;
  std::reverse(parameters_.begin(), parameters_.end());
  for (const NamedParameter& each : parameters_) {
    n_numbers_ += each.tensor.numel();
  }
  const int64_t unit = kShareUnit * group_->size();
  share_size_ = (n_numbers_ + unit - 1) / unit * kShareUnit;
  share_begin_ = share_size_ * group_->rank();
  const auto numbers = parameters_.front().tensor.options().requires_grad(false);
  gradients_.buffer = torch::zeros({share_size_ * group_->size()}, numbers);
  first_ = torch::zeros({share_size_}, numbers);
  second_ = torch::zeros({share_size_}, numbers);
  int64_t begin = 0;
  for (NamedParameter& each : parameters_) {
    Tensor& parameter = each.tensor;
    const int64_t end = begin + parameter.numel();
    parameter.mutable_grad() = gradients_.buffer.slice(0, begin, end).view_as(parameter);
    gradients_.parameters.push_back(parameter);
    const int64_t low = std::max(begin, share_begin_),
                  high = std::min(end, share_begin_ + share_size_);
    if (low < high) {
      slices_.push_back({parameter.detach().view(-1).slice(0, low - begin, high - begin),
                         gradients_.buffer.slice(0, low, high),
                         first_.slice(0, low - share_begin_, high - share_begin_),
                         second_.slice(0, low - share_begin_, high - share_begin_),
                         parameter.dim() >= 2});
    }
    begin = end;
  }
}

double AdamW::clip(double max_norm) {
  const torch::NoGradGuard no_grad;
  const double norm = gradients_.buffer.norm().item<double>();
  if (max_norm > 0 && norm > max_norm && std::isfinite(norm)) {
    gradients_.buffer.mul_(max_norm / (norm + 1e-6));
  }
  return norm;
}

void AdamW::step(double lr) {
  const torch::NoGradGuard no_grad;
  const Tensor count = torch::full(
      {}, static_cast<double>(n_steps_), torch::dtype(torch::kFloat32).device(first_.device()));
  ++n_steps_;
  const Tensor next = count + 1;
  for (const bool decays : {true, false}) {
    std::vector<Tensor> parameters, gradients, first, second, counts;
    for (const Slice& slice : slices_) {
      if (slice.decays == decays) {
        parameters.push_back(slice.parameter);
        gradients.push_back(slice.gradient);
        first.push_back(slice.first);
        second.push_back(slice.second);
        counts.push_back(next);
      }
    }
    if (!parameters.empty()) {
      at::_fused_adamw_(parameters,
                        gradients,
                        first,
                        second,
                        {},
                        counts,
                        lr,
                        options_.beta1,
                        options_.beta2,
                        decays ? options_.weight_decay : 0.0,
                        options_.eps,
                        /*amsgrad=*/false,
                        /*maximize=*/false);
    }
  }
  if (group_->size() > 1) {
    share_parameters();
  }
}

void AdamW::share_parameters() {
  Tensor share = torch::zeros({share_size_}, first_.options());
  int64_t begin = share_begin_;
  for (const Slice& slice : slices_) {
    share.slice(0, begin - share_begin_, begin - share_begin_ + slice.parameter.numel())
        .copy_(slice.parameter);
    begin += slice.parameter.numel();
  }
  const Tensor whole = gather(share);
  begin = 0;
  for (const NamedParameter& each : parameters_) {
    each.tensor.detach().view(-1).copy_(whole.slice(0, begin, begin + each.tensor.numel()));
    begin += each.tensor.numel();
  }
}

Tensor AdamW::gather(const Tensor& share) {
  if (group_->size() == 1) {
    return share;
  }
  Tensor whole = torch::empty({share_size_ * group_->size()}, share.options());
  group_->all_gather_into(whole, share);
  return whole;
}

std::pair<Tensor, Tensor> AdamW::moments() {
  const auto of = [&](const Tensor& share) {
    return gather(share)
        .slice(0, 0, n_numbers_)
        .to(torch::kCPU, /*non_blocking=*/false, /*copy=*/true);
  };
  Tensor first = of(first_);
  return {std::move(first), of(second_)};
}

void AdamW::restore(int64_t steps, const Tensor& first, const Tensor& second) {
  check(first.numel() == n_numbers_ && second.numel() == n_numbers_,
        "the optimizer's state holds ",
        first.numel(),
        " numbers, the model trains ",
        n_numbers_);
  const int64_t end = std::min(share_begin_ + share_size_, n_numbers_);
  if (share_begin_ < end) {
    first_.slice(0, 0, end - share_begin_).copy_(first.slice(0, share_begin_, end));
    second_.slice(0, 0, end - share_begin_).copy_(second.slice(0, share_begin_, end));
  }
  n_steps_ = steps;
}

}  // namespace ssa
