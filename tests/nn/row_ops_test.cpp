// The own loops against LibTorch's operations, which the same functions take where gradients are
// asked for.
#include "nn/row_ops.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>
#include <torch/cuda.h>

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
  expect_close(op, {random({300, 576}), random({576})});  // shared among threads
}

TEST_P(RowOpsTest, SiluTimes) {
  const auto op = [](const std::vector<Tensor>& in) { return silu_times(in[0], in[1]); };
  expect_close(op, {random({1, 1536}), random({1, 1536})});
  expect_close(op, {random({70, 1536}), random({70, 1536})});  // shared among threads
  const Tensor fused = random({3, 2 * 48});
  expect_close(op, {fused.narrow(1, 0, 48), fused.narrow(1, 48, 48)});
  EXPECT_TRUE(
      torch::equal(silu_times(fused), op({fused.narrow(1, 0, 48), fused.narrow(1, 48, 48)})));
}

TEST_P(RowOpsTest, AddRows) {
  const auto op = [](const std::vector<Tensor>& in) { return add_rows(in[0], in[1]); };
  expect_close(op, {random({3, 50}), random({3, 50})});
  expect_close(op, {random({300, 576}), random({300, 576})});  // shared among threads
}

TEST_P(RowOpsTest, RotateHalves) {
  const auto op = [](const std::vector<Tensor>& in) { return rotate_halves(in[0], in[1], in[2]); };
  expect_close(op, {random({1, 9, 64}), random({1, 1, 64}), random({1, 1, 64})});
  expect_close(op, {random({90, 9, 64}), random({90, 1, 64}), random({90, 1, 64})});  // shared
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

TEST_P(RowOpsTest, RotateParts) {
  const torch::NoGradGuard no_grad;
  const Tensor qkv = random({3, (4 + 2 * 2) * 24}), cos = random({3, 1, 24}),
               sin = random({3, 1, 24});
  const auto [q, k, v] = rotate_parts(qkv, 4, 2, cos, sin);
  const Tensor heads = qkv.view({3, 8, 24});
  EXPECT_TRUE(torch::equal(q, rotate_halves(heads.narrow(1, 0, 4), cos, sin)));
  EXPECT_TRUE(torch::equal(k, rotate_halves(heads.narrow(1, 4, 2), cos, sin)));
  EXPECT_TRUE(torch::equal(v, heads.narrow(1, 6, 2)));
}

/// The kernels of bf16 on CUDA, with gradients, against float64 of the same numbers.
TEST(RowKernels, AgreeWithFloat64) {
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "no CUDA device";
  }
  torch::manual_seed(4);
  constexpr int64_t kTokens = 300, kHeads = 4, kKeyHeads = 2, kHeadDim = 32;
  using List = std::vector<Tensor>;
  const Tensor angles = torch::randn({kTokens, 1, kHeadDim / 2}).repeat({1, 1, 2});
  const auto check = [&](const char* name,
                         const std::vector<at::IntArrayRef>& shapes,
                         bool trains_last,
                         const auto& op) {
    List wide, narrow;
    for (size_t i = 0; i < shapes.size(); ++i) {
      const Tensor x = torch::randn(shapes[i]).to(torch::kBFloat16);
      const bool trains = trains_last || i + 1 < shapes.size();
      wide.push_back(x.to(torch::kFloat64).requires_grad_(trains));
      narrow.push_back(x.to(torch::kCUDA).requires_grad_(trains));
    }
    const List exact = op(wide), out = op(narrow);
    List seeds, narrow_seeds;
    for (const Tensor& y : exact) {
      seeds.push_back(torch::randn_like(y).to(torch::kBFloat16).to(torch::kFloat64));
      narrow_seeds.push_back(seeds.back().to(torch::kCUDA, torch::kBFloat16));
    }
    torch::autograd::backward(exact, seeds);
    torch::autograd::backward(out, narrow_seeds);
    const auto close = [&](const Tensor& a, const Tensor& b) {
      const Tensor error = a.to(torch::kCPU, torch::kFloat64) - b;
      EXPECT_LT((error.norm() / b.norm()).item<double>(), 1e-2) << name;
    };
    for (size_t i = 0; i < out.size(); ++i) {
      close(out[i].detach(), exact[i].detach());
    }
    for (size_t i = 0; i < wide.size(); ++i) {
      ASSERT_EQ(narrow[i].grad().defined(), wide[i].grad().defined()) << name;
      if (wide[i].grad().defined()) {
        close(narrow[i].grad(), wide[i].grad());
      }
    }
  };
  const auto both = [](const std::pair<Tensor, Tensor>& pair) {
    return List{pair.first, pair.second};
  };
  for (const bool trains_weight : {true, false}) {
    check("norm", {{kTokens, 576}, {576}}, trains_weight, [&](const List& in) {
      return both(rms_norm_beside(in[0], in[1], 1e-5));
    });
    check("sum and norm",
          {{kTokens, 576}, {kTokens, 576}, {576}},
          trains_weight,
          [&](const List& in) { return both(add_rms_norm(in[0], in[1], in[2], 1e-5)); });
  }
  check("silu", {{kTokens, 2 * 96}}, true, [&](const List& in) { return List{silu_times(in[0])}; });
  check("rotation", {{kTokens, (kHeads + 2 * kKeyHeads) * kHeadDim}}, true, [&](const List& in) {
    const Tensor own = angles.to(in[0].device(), in[0].scalar_type());
    const auto parts = rotate_parts(in[0], kHeads, kKeyHeads, own.cos(), own.sin());
    return List{parts[0], parts[1], parts[2]};
  });
}

INSTANTIATE_TEST_SUITE_P(Type, RowOpsTest, ::testing::Values(torch::kFloat32, torch::kBFloat16));

}  // namespace
}  // namespace ssa
