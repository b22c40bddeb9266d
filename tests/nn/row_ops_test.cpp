// The own loops against LibTorch's operations, which the same functions take where gradients are
// asked for.
#include "nn/row_ops.h"

#include <gtest/gtest.h>

#include "support/compare.h"

namespace ssa {
namespace {

class RowOpsTest : public ::testing::TestWithParam<torch::ScalarType> {
 protected:
  void SetUp() override { torch::manual_seed(9); }
  static Tensor random(at::IntArrayRef shape) { return torch::randn(shape).mul(2).to(GetParam()); }

  /// op(inputs) by the own loops errs at most twice as far from float64 as LibTorch's operations.
  template <class Op>
  static void expect_close(const Op& op, const std::vector<Tensor>& inputs) {
    std::vector<Tensor> wide;
    for (const Tensor& input : inputs) {
      wide.push_back(input.to(torch::kFloat64));
    }
    const Tensor plain = op(inputs), exact = op(wide);
    const torch::NoGradGuard no_grad;
    const Tensor fast = op(inputs);
    EXPECT_EQ(fast.scalar_type(), GetParam());
    EXPECT_TRUE(fast.is_contiguous());
    EXPECT_TRUE(close_by_ratio(fast, plain, exact));
  }
};

TEST_P(RowOpsTest, RmsNorm) {
  const auto op = [](const std::vector<Tensor>& in) { return rms_norm(in[0], in[1], 1e-5); };
  expect_close(op, {random({3, 576}), random({576})});
  expect_close(op, {random({2, 5, 48}), random({48})});
  const Tensor part = random({4, 6 * 32 + 40})
                          .narrow(1, 0, 6 * 32)
                          .unflatten(1, {6, 32});  // heads of a fused product
  expect_close(op, {part, random({32})});
  expect_close(op, {random({300, 576}), random({576})});  // beyond what own loops take
}

TEST_P(RowOpsTest, SiluTimes) {
  const auto op = [](const std::vector<Tensor>& in) { return silu_times(in[0], in[1]); };
  expect_close(op, {random({1, 1536}), random({1, 1536})});
  const Tensor fused = random({3, 2 * 48});
  expect_close(op, {fused.narrow(1, 0, 48), fused.narrow(1, 48, 48)});
}

TEST_P(RowOpsTest, AddRows) {
  const auto op = [](const std::vector<Tensor>& in) { return add_rows(in[0], in[1]); };
  expect_close(op, {random({3, 50}), random({3, 50})});
}

TEST_P(RowOpsTest, RotateHalves) {
  const auto op = [](const std::vector<Tensor>& in) { return rotate_halves(in[0], in[1], in[2]); };
  expect_close(op, {random({1, 9, 64}), random({1, 1, 64}), random({1, 1, 64})});
  const Tensor part = random({3, 5 * 24 + 7}).narrow(1, 7, 5 * 24).unflatten(1, {5, 24});
  expect_close(op, {part, random({3, 1, 24}), random({3, 1, 24})});
  const Tensor transposed =
      random({5, 3, 24}).transpose(0, 1);  // heads apart: LibTorch's operations
  expect_close(op, {transposed.contiguous(), random({3, 1, 24}), random({3, 1, 24})});
  const torch::NoGradGuard no_grad;
  const Tensor cos = random({3, 1, 24}), sin = random({3, 1, 24});
  // LibTorch rounds both products to bfloat16, our loops only their sum: two roundings of numbers
  // up to 16.
  EXPECT_TRUE(all_close(
      rotate_halves(transposed, cos, sin), rotate_halves(transposed.contiguous(), cos, sin), 0.25));
}

INSTANTIATE_TEST_SUITE_P(Type, RowOpsTest, ::testing::Values(torch::kFloat32, torch::kBFloat16));

}  // namespace
}  // namespace ssa
