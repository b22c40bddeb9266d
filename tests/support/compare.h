// Comparing tensors: shapes first, then where values are NaN or infinite, then how far apart the
// others are.
#pragma once

#include <gtest/gtest.h>
#include <torch/types.h>

#include <limits>

namespace ssa {

using torch::Tensor;

/// Fails unless shapes and the places (and signs) of infinities and NaN are those expected.
inline ::testing::AssertionResult same_form(const Tensor& actual, const Tensor& expected) {
  if (actual.sizes() != expected.sizes()) {
    return ::testing::AssertionFailure()
           << "shape " << actual.sizes() << ", expected " << expected.sizes();
  }
  const Tensor a = actual.to(torch::kFloat64), b = expected.to(torch::kFloat64);
  const Tensor same_nan = a.isnan() == b.isnan();
  const Tensor same_inf = (a.isposinf() == b.isposinf()).logical_and(a.isneginf() == b.isneginf());
  const auto n_wrong = same_nan.logical_and(same_inf).logical_not().sum().item<int64_t>();
  if (n_wrong > 0) {
    return ::testing::AssertionFailure() << n_wrong << " values differ in being NaN or infinite";
  }
  return ::testing::AssertionSuccess();
}

/// Largest difference between finite values of tensors of the same form; 0 if there are none.
inline double largest_difference(const Tensor& a, const Tensor& b) {
  const Tensor difference = (a.to(torch::kFloat64) - b.to(torch::kFloat64)).abs();
  const Tensor finite = difference.masked_select(difference.isfinite());
  return finite.numel() > 0 ? finite.max().item<double>() : 0.0;
}

/// The same form, and nowhere further apart than `tolerance`.
inline ::testing::AssertionResult all_close(const Tensor& actual,
                                            const Tensor& expected,
                                            double tolerance) {
  const auto form = same_form(actual, expected);
  if (!form) {
    return form;
  }
  const double difference = largest_difference(actual, expected);
  if (difference > tolerance) {
    return ::testing::AssertionFailure()
           << "largest difference " << difference << ", allowed " << tolerance;
  }
  return ::testing::AssertionSuccess();
}

/// Tolerance by ratio: `actual` may err twice as far from `exact` (float64) as `plain` does, which
/// is the same formula in plain LibTorch operations and actual's type, and by one rounding of the
/// largest value.
inline ::testing::AssertionResult close_by_ratio(const Tensor& actual,
                                                 const Tensor& plain,
                                                 const Tensor& exact) {
  const auto form = same_form(actual, exact);
  if (!form) {
    return form;
  }
  const bool is_bf16 = actual.scalar_type() == torch::kBFloat16;
  const double epsilon = is_bf16 ? 0x1p-7 : double{std::numeric_limits<float>::epsilon()};
  const double floor = exact.numel() > 0 ? epsilon * exact.abs().max().item<double>() : 0.0;
  const double error = largest_difference(actual, exact);
  const double allowed = 2 * largest_difference(plain, exact) + floor;
  if (error > allowed) {
    return ::testing::AssertionFailure() << "error " << error << ", allowed " << allowed;
  }
  return ::testing::AssertionSuccess();
}

}  // namespace ssa
