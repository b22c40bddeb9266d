// AdamW against LibTorch's, and the learning rate over a run.
#include "training/optimizer.h"

#include <gtest/gtest.h>
#include <torch/optim/adamw.h>

#include "support/compare.h"
#include "support/expect_error.h"
#include "training/schedule.h"

namespace ssa {
namespace {

std::vector<Tensor> random_parameters() {
  torch::manual_seed(2);
  const auto options = torch::dtype(torch::kFloat64);
  std::vector<Tensor> parameters = {
      torch::randn({7, 5}, options), torch::randn({11}, options), torch::randn({3, 130}, options)};
  for (Tensor& parameter : parameters) {
    parameter.requires_grad_();
  }
  return parameters;
}

std::vector<NamedParameter> named(const std::vector<Tensor>& parameters) {
  std::vector<NamedParameter> result;
  for (size_t i = 0; i < parameters.size(); ++i) {
    result.push_back({std::to_string(i), parameters[i]});
  }
  return result;
}

Tensor loss_of(const std::vector<Tensor>& parameters, int step) {
  Tensor loss = torch::zeros({}, torch::kFloat64);
  for (const Tensor& parameter : parameters) {
    loss = loss + (parameter * (step + 1)).sin().sum() + parameter.pow(4).mean();
  }
  return loss;
}

void step_of(AdamW& optimizer, const std::vector<Tensor>& parameters, int step) {
  optimizer.zero_grad();
  loss_of(parameters, step).backward();
  optimizer.step(0.01 * (step + 1));
}

TEST(AdamW, TakesLibTorchsSteps) {
  const std::vector<Tensor> ours = random_parameters(), theirs = random_parameters();
  AdamW optimizer(named(ours),
                  {.beta1 = 0.8, .beta2 = 0.9, .eps = 1e-6, .weight_decay = 0.3},
                  ProcessGroup::single(torch::kCPU));
  using Options = torch::optim::AdamWOptions;
  const auto options = [](double decay) {
    return std::make_unique<Options>(Options(0.01).betas({0.8, 0.9}).eps(1e-6).weight_decay(decay));
  };
  torch::optim::AdamW plain(
      std::vector<torch::optim::OptimizerParamGroup>{{{theirs[0], theirs[2]}, options(0.3)},
                                                     {{theirs[1]}, options(0.0)}},
      Options(0.01));
  for (int step = 0; step < 5; ++step) {
    step_of(optimizer, ours, step);
    plain.zero_grad();
    loss_of(theirs, step).backward();
    for (auto& group : plain.param_groups()) {
      static_cast<Options&>(group.options()).lr(0.01 * (step + 1));
    }
    plain.step();
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_TRUE(all_close(ours[i].detach(), theirs[i].detach(), 1e-13))
          << "step " << step << ", parameter " << i;
    }
  }
  EXPECT_EQ(optimizer.steps(), 5);
}

TEST(AdamW, GoesOnFromItsMoments) {
  const std::vector<Tensor> whole = random_parameters(), halves = random_parameters();
  AdamW first(named(whole), {}, ProcessGroup::single(torch::kCPU));
  std::pair<Tensor, Tensor> moments;
  for (int step = 0; step < 4; ++step) {
    if (step == 2) {
      moments = first.moments();
      const torch::NoGradGuard no_grad;
      for (size_t i = 0; i < whole.size(); ++i) {
        halves[i].copy_(whole[i]);
      }
    }
    step_of(first, whole, step);
  }
  AdamW second(named(halves), {}, ProcessGroup::single(torch::kCPU));
  second.restore(2, moments.first, moments.second);
  step_of(second, halves, 2);
  step_of(second, halves, 3);
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_TRUE(torch::equal(whole[i], halves[i])) << i;
  }
  expect_error([&] { second.restore(2, moments.first.slice(0, 1), moments.second); },
               "the optimizer's state holds");
}

TEST(AdamW, ClipsByTheNormOfAll) {
  const std::vector<Tensor> parameters = random_parameters();
  AdamW optimizer(named(parameters), {}, ProcessGroup::single(torch::kCPU));
  loss_of(parameters, 0).backward();
  const double norm = optimizer.gradients().buffer.norm().item<double>();
  EXPECT_DOUBLE_EQ(optimizer.clip(0), norm);
  EXPECT_DOUBLE_EQ(optimizer.clip(norm + 1), norm);
  EXPECT_DOUBLE_EQ(optimizer.gradients().buffer.norm().item<double>(), norm);
  EXPECT_DOUBLE_EQ(optimizer.clip(0.5), norm);
  EXPECT_NEAR(optimizer.gradients().buffer.norm().item<double>(), 0.5, 1e-6);
  optimizer.gradients().buffer[3] = NAN;
  EXPECT_FALSE(std::isfinite(optimizer.clip(0.5)));
}

TEST(AdamW, WantsSomethingToTrain) {
  expect_error([] { AdamW({}, {}, ProcessGroup::single(torch::kCPU)); }, "nothing to train");
}

TEST(Schedule, RisesThenFalls) {
  const auto at = [](Decay decay, int64_t step) {
    return Schedule{
        .peak = 8, .warmup_steps = 3, .total_steps = 13, .decay = decay, .min_ratio = 0.25}
        .at(step);
  };
  for (const Decay decay : {Decay::kConstant, Decay::kLinear, Decay::kCosine}) {
    EXPECT_DOUBLE_EQ(at(decay, 1), 2);
    EXPECT_DOUBLE_EQ(at(decay, 3), 6);
    EXPECT_DOUBLE_EQ(at(decay, 4), 8);  // the peak
  }
  EXPECT_DOUBLE_EQ(at(Decay::kConstant, 13), 8);
  EXPECT_DOUBLE_EQ(at(Decay::kLinear, 9), 8 * (1 - 0.75 * 0.5));
  EXPECT_DOUBLE_EQ(at(Decay::kCosine, 9), 8 * (0.25 + 0.75 * 0.5));
  EXPECT_NEAR(at(Decay::kCosine, 13), 8 * (0.25 + 0.375 * (1 + std::cos(0.9 * M_PI))), 1e-12);
  EXPECT_DOUBLE_EQ(at(Decay::kLinear, 14), 2);
  EXPECT_DOUBLE_EQ(at(Decay::kCosine, 1000), 2);
  EXPECT_DOUBLE_EQ((Schedule{.peak = 1, .total_steps = 1}).at(1), 1);
}

TEST(Schedule, KnowsItsNames) {
  EXPECT_EQ(parse_decay("linear"), Decay::kLinear);
  expect_error([] { parse_decay("sqrt"); },
               "lr_scheduler.decay 'sqrt' is not known; known are constant, cosine, linear");
}

}  // namespace
}  // namespace ssa
