#include "nn/layers.h"

#include <gtest/gtest.h>

#include <map>

#include "support/compare.h"

namespace ssa {
namespace {

/// Random parameters, handed out by name and remembered.
class RandomParameters : public ParameterSource {
 public:
  explicit RandomParameters(torch::ScalarType dtype = torch::kFloat32) : dtype_(dtype) {
    torch::manual_seed(3);
  }
  Tensor parameter(const std::string& name, at::IntArrayRef shape) override {
    return given[name] = torch::randn(shape).to(dtype_);
  }
  std::map<std::string, Tensor> given;

 private:
  torch::ScalarType dtype_;
};

TEST(Linear, AsksForItsParametersByName) {
  RandomParameters source;
  const Linear plain(source, "mlp.up_proj", 5, 3, false);
  EXPECT_FALSE(plain->bias.defined());
  const Linear biased(source, "q_proj", 5, 3, true);
  EXPECT_EQ(source.given.at("mlp.up_proj.weight").sizes(), at::IntArrayRef({5, 3}));
  EXPECT_EQ(source.given.size(), 3U);
  const Tensor x = torch::randn({2, 3});
  const Tensor expected =
      x.matmul(source.given.at("q_proj.weight").t()) + source.given.at("q_proj.bias");
  EXPECT_TRUE(all_close(biased->forward(x), expected, 1e-6));
  EXPECT_EQ(biased->named_parameters().size(), 2U);
}

class FusedLinearTest : public ::testing::TestWithParam<bool> {};

TEST_P(FusedLinearTest, EqualsItsPartsInBothModes) {
  RandomParameters source;
  const bool bias = GetParam();
  const std::vector<Linear> parts = {Linear(source, "q", 6, 4, bias),
                                     Linear(source, "k", 2, 4, bias),
                                     Linear(source, "v", 3, 4, bias)};
  const Tensor x = torch::randn({5, 4});
  std::vector<Tensor> expected;
  for (const Linear& part : parts) {
    expected.push_back(part->forward(x).clone());
  }
  const FusedLinear fused(parts);
  for (const bool with_gradients : {true, false}) {
    const torch::AutoGradMode mode(with_gradients);
    const std::vector<Tensor> outputs = fused.forward(x);
    ASSERT_EQ(outputs.size(), 3U);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(all_close(outputs[i], expected[i], 1e-6)) << i;
    }
  }
}

TEST_P(FusedLinearTest, HoldsNothingTwiceAndSeesChanges) {
  RandomParameters source;
  const std::vector<Linear> parts = {Linear(source, "gate", 3, 4, GetParam()),
                                     Linear(source, "up", 2, 4, GetParam())};
  const FusedLinear fused(parts);
  EXPECT_TRUE(parts[0]->weight.is_alias_of(parts[1]->weight));
  const torch::NoGradGuard no_grad;
  const Tensor x = torch::randn({1, 4});
  const Tensor before = fused.forward(x)[1].clone();
  parts[1]->named_parameters()["weight"].mul_(2);
  EXPECT_TRUE(all_close(fused.forward(x)[1], parts[1]->forward(x), 1e-6));
  EXPECT_FALSE(all_close(fused.forward(x)[1], before, 1e-3));
}

TEST_P(FusedLinearTest, GradientsReachEachPart) {
  RandomParameters source(torch::kFloat64);
  const std::vector<Linear> parts = {Linear(source, "gate", 3, 4, GetParam()),
                                     Linear(source, "up", 2, 4, GetParam())};
  const FusedLinear fused(parts);
  for (const Linear& part : parts) {
    part->weight.requires_grad_();
  }
  const Tensor x = torch::randn({6, 4}, torch::kFloat64);
  const std::vector<Tensor> outputs = fused.forward(x);
  (outputs[0].sum() + outputs[1].sum() * 2).backward();
  const Tensor one_row = x.sum(0, /*keepdim=*/true);
  EXPECT_TRUE(all_close(parts[0]->weight.grad(), one_row.expand({3, 4}), 1e-12));
  EXPECT_TRUE(all_close(parts[1]->weight.grad(), 2 * one_row.expand({2, 4}), 1e-12));
}

INSTANTIATE_TEST_SUITE_P(Bias, FusedLinearTest, ::testing::Bool());

TEST(FusedLinear, BiasOnSomePartsIsAnError) {
  RandomParameters source;
  const std::vector<Linear> parts = {Linear(source, "q", 3, 4, true),
                                     Linear(source, "k", 2, 4, false)};
  EXPECT_THROW(FusedLinear{parts}, c10::Error);
}

TEST(RmsNorm, IsTheFormula) {
  RandomParameters source(torch::kFloat64);
  RmsNorm norm(source, "norm", 8, 1e-3);
  const Tensor x = torch::randn({3, 2, 8}, torch::kFloat64);
  const Tensor rms = (x.pow(2).sum(-1, true) / 8 + 1e-3).sqrt();
  EXPECT_TRUE(all_close(norm->forward(x), x / rms * source.given.at("norm.weight"), 1e-14));
  EXPECT_TRUE(all_close(norm->forward(torch::zeros({1, 8}, torch::kFloat64)),
                        torch::zeros({1, 8}, torch::kFloat64),
                        0));
}

TEST(RmsNorm, TakesTheMeanSquareInFloat32) {
  RandomParameters source(torch::kBFloat16);
  RmsNorm norm(source, "norm", 512, 1e-6);
  const Tensor x = torch::randn({16, 512}).to(torch::kBFloat16) * 100;
  const Tensor actual = norm->forward(x);
  EXPECT_EQ(actual.scalar_type(), torch::kBFloat16);
  const Tensor wide = x.to(torch::kFloat64);
  const Tensor normalised = wide / (wide.square().mean(-1, true) + 1e-6).sqrt();
  const Tensor weight = source.given.at("norm.weight");
  // Two roundings to bfloat16 (2^-8 each at most): of the normalised value, and of its product with
  // the weight.
  const Tensor exact = normalised * weight.to(torch::kFloat64);
  EXPECT_LT(((actual.to(torch::kFloat64) - exact) / exact).abs().max().item<double>(),
            2.1 * 0x1p-8);
}

}  // namespace
}  // namespace ssa
