// Gradients held against differences.
#pragma once

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <string>

namespace ssa {

/// Expects `gradient` of f at `parameter` (float64) to be right along a random direction of length
/// 1, by differences of fourth order. One direction shows all entries for the price of one: an
/// entry that is wrong by e shows as e / sqrt(entries) or so, and the tolerance is of the size that
/// an entry of the gradient has, and `rounding` for f itself. `parameter` is left as it was.
template <class Fn>
void expect_slope(const std::string& name,
                  const torch::Tensor& parameter,
                  const torch::Tensor& gradient,
                  double step,
                  double rounding,
                  const Fn& f) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor kept = parameter.clone();
  torch::Tensor direction = torch::randn_like(parameter);
  direction /= direction.norm();
  const auto at = [&](double steps) {
    parameter.copy_(kept + steps * step * direction);
    return f();
  };
  const double slope = (at(-2) - 8 * at(-1) + 8 * at(1) - at(2)) / (12 * step);
  parameter.copy_(kept);
  const double given = (gradient * direction).sum().template item<double>(),
               entry = gradient.norm().template item<double>() /
                       std::sqrt(static_cast<double>(gradient.numel()));
  EXPECT_NEAR(slope, given, 1e-6 * std::max(entry, std::abs(given)) + rounding) << name;
}

}  // namespace ssa
