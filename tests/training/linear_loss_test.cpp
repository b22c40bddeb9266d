// Losses over the vocabulary in blocks, against whole tables of logits.
#include "training/linear_loss.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>
#include <torch/cuda.h>
#include <torch/nn/functional/loss.h>

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
  const auto gradients =
      torch::autograd::grad({loss * 0.25}, {in.hidden, in.weight}, {}, /*retain_graph=*/true);
  const auto expected =
      torch::autograd::grad({plain * 0.25}, {in.hidden, in.weight}, {}, /*retain_graph=*/true);
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

/// Rows of an adapter's gists behind the vocabulary's, and a teacher without them: the kernels of
/// bf16 on CUDA against float64. Vocabularies in eights and not.
TEST(LinearLosses, KernelsAgreeWithFloat64) {
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const auto on_device = [](const Tensor& x) { return x.detach().to(torch::kCUDA); };
  for (const int64_t words : {1024, 1021}) {
    torch::manual_seed(3);
    const auto rounded = [](at::IntArrayRef shape) {
      return torch::randn(shape).mul(0.3).to(torch::kBFloat16).to(torch::kFloat64);
    };
    const Tensor hidden = rounded({70, 64}).requires_grad_(), weight = rounded({words, 64}),
                 tail = rounded({3, 64}).requires_grad_(), teacher = rounded({70, 64}),
                 targets = torch::randint(words, {70});
    const Tensor narrow = on_device(hidden).to(torch::kBFloat16).requires_grad_(),
                 narrow_tail = on_device(tail).to(torch::kFloat32).requires_grad_();
    const OutputRows exact_rows(weight, tail),
        rows(on_device(weight).to(torch::kBFloat16), narrow_tail);
    const auto check = [&](const Tensor& exact, const Tensor& loss, double tolerance) {
      EXPECT_NEAR(loss.item<double>() / exact.item<double>(), 1, tolerance) << words;
      const auto expected = torch::autograd::grad({exact}, {hidden, tail}),
                 gradients = torch::autograd::grad({loss}, {narrow, narrow_tail});
      for (size_t i = 0; i < 2; ++i) {
        const Tensor error = gradients[i].to(torch::kCPU, torch::kFloat64) - expected[i];
        EXPECT_LT((error.norm() / expected[i].norm()).item<double>(), 2e-2) << words << ", " << i;
      }
    };
    check(linear_cross_entropy(hidden, exact_rows, targets),
          linear_cross_entropy(narrow, rows, on_device(targets)),
          1e-3);
    check(linear_distillation(hidden, exact_rows, teacher, weight),
          linear_distillation(narrow, rows, on_device(teacher).to(torch::kBFloat16), rows.weight),
          1e-2);
  }
}

TEST(LinearDistillation, GivesNoWeightToWhatTheTeacherLacks) {
  const Inputs in = make_inputs(9, 20, torch::kFloat64);
  const Tensor tail = torch::randn({3, 6}, torch::kFloat64).requires_grad_();
  const Tensor log_p = torch::linear(in.hidden, torch::cat({in.weight, tail})).log_softmax(-1);
  const Tensor teacher = torch::linear(in.teacher_hidden, in.teacher_weight).log_softmax(-1);
  const Tensor plain =
      torch::kl_div(log_p.slice(1, 0, 20), teacher, at::Reduction::Sum, /*log_target=*/true);
  const Tensor loss =
      linear_distillation(in.hidden, {in.weight, tail}, in.teacher_hidden, in.teacher_weight);
  expect_same(loss, plain, in, 1e-12);
  EXPECT_TRUE(all_close(
      torch::autograd::grad({loss}, {tail})[0], torch::autograd::grad({plain}, {tail})[0], 1e-12));
}

}  // namespace
}  // namespace ssa
