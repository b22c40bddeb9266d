// Losses over the vocabulary in blocks, against whole tables of logits.
#include "training/linear_loss.h"

#include <gtest/gtest.h>

#include "support/compare.h"

namespace ssa {
namespace {

struct Inputs {
  Tensor hidden, weight, targets, teacher_hidden, teacher_weight;
};

/// With more rows than fit one block of 2^24 logits where `n_rows` times `n_words` says so.
Inputs make_inputs(int64_t n_rows, int64_t n_words, torch::ScalarType dtype) {
  torch::manual_seed(1);
  const auto options = torch::dtype(dtype);
  return {torch::randn({n_rows, 6}, options).requires_grad_(),
          torch::randn({n_words, 6}, options).requires_grad_(),
          torch::randint(n_words, {n_rows}),
          torch::randn({n_rows, 6}, options),
          torch::randn({n_words, 6}, options)};
}

void expect_same(const Tensor& loss, const Tensor& plain, const Inputs& in, double tolerance) {
  EXPECT_TRUE(all_close(loss, plain, tolerance * plain.abs().item<double>()));
  // A gradient of 0.25 from above, as weights of objectives give.
  const auto gradients = torch::autograd::grad({loss * 0.25}, {in.hidden, in.weight});
  const auto expected = torch::autograd::grad({plain * 0.25}, {in.hidden, in.weight});
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(
        all_close(gradients[i], expected[i], tolerance * expected[i].abs().max().item<double>()))
        << i;
  }
}

TEST(LinearCrossEntropy, EqualsTheWholeTable) {
  for (const auto& [rows, words] : {std::pair<int64_t, int64_t>{17, 31}, {1, 5}, {35, 1 << 19}}) {
    const Inputs in = make_inputs(rows, words, torch::kFloat64);
    const Tensor plain = torch::nn::functional::cross_entropy(
        torch::linear(in.hidden, in.weight),
        in.targets,
        torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kSum));
    expect_same(linear_cross_entropy(in.hidden, in.weight, in.targets), plain, in, 1e-13);
  }
}

TEST(LinearCrossEntropy, TakesNoRows) {
  const Inputs in = make_inputs(0, 5, torch::kFloat32);
  const Tensor loss = linear_cross_entropy(in.hidden, in.weight, in.targets);
  EXPECT_EQ(loss.item<float>(), 0);
  loss.backward();
  EXPECT_EQ(in.weight.grad().abs().max().item<float>(), 0);
}

TEST(LinearCrossEntropy, KeepsLossAndWeightsWideForNarrowStates) {
  const Inputs in = make_inputs(64, 40, torch::kFloat32);
  const Tensor narrow = in.hidden.detach().to(torch::kBFloat16).requires_grad_();
  const Tensor loss = linear_cross_entropy(narrow, in.weight, in.targets);
  EXPECT_EQ(loss.scalar_type(), torch::kFloat32);
  const auto gradients = torch::autograd::grad({loss}, {narrow, in.weight});
  EXPECT_EQ(gradients[0].scalar_type(), torch::kBFloat16);
  EXPECT_EQ(gradients[1].scalar_type(), torch::kFloat32);
  const Tensor exact = linear_cross_entropy(in.hidden, in.weight, in.targets);
  EXPECT_NEAR(loss.item<double>() / exact.item<double>(), 1, 1e-2);
  const Tensor wanted = torch::autograd::grad({exact}, {in.weight})[0];
  EXPECT_LT(((gradients[1] - wanted).norm() / wanted.norm()).item<double>(), 3e-2);
}

TEST(LinearDistillation, EqualsTheWholeTable) {
  for (const auto& [rows, words] : {std::pair<int64_t, int64_t>{17, 31}, {35, 1 << 19}}) {
    const Inputs in = make_inputs(rows, words, torch::kFloat64);
    const Tensor teacher = torch::linear(in.teacher_hidden, in.teacher_weight).log_softmax(-1);
    const Tensor plain = torch::kl_div(torch::linear(in.hidden, in.weight).log_softmax(-1),
                                       teacher,
                                       at::Reduction::Sum,
                                       /*log_target=*/true);
    expect_same(linear_distillation(in.hidden, in.weight, in.teacher_hidden, in.teacher_weight),
                plain,
                in,
                1e-12);
  }
}

TEST(LinearDistillation, OfItsOwnTeacherIsZero) {
  const Inputs in = make_inputs(9, 20, torch::kFloat64);
  const Tensor loss = linear_distillation(in.hidden, in.weight, in.hidden, in.weight);
  EXPECT_NEAR(loss.item<double>(), 0, 1e-14);
  EXPECT_LT(torch::autograd::grad({loss}, {in.hidden})[0].abs().max().item<double>(), 1e-14);
}

}  // namespace
}  // namespace ssa
