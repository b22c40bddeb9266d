#include "distributed/gradient_reducer.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/error.h"
#include "ranks.h"

namespace ssa {
namespace {

/// A chain of square layers, and one that no step uses in the middle of their gradients.
struct Model {
  static constexpr int kLayers = 6;
  static constexpr int64_t kWidth = 32;

  explicit Model(torch::Device device = torch::kCPU) {
    torch::manual_seed(7);
    for (int i = 0; i < kLayers; ++i) {
      const Tensor layer = torch::randn({kWidth, kWidth}) / std::sqrt(static_cast<double>(kWidth));
      layers.push_back(layer.to(device));
      layers.back().requires_grad_();
    }
    unused = torch::randn({kWidth}, device).requires_grad_();
    gradients.parameters = {layers.rbegin(), layers.rend()};  // in order of the backward pass
    gradients.parameters.insert(gradients.parameters.begin() + 3, unused);
    gradients.buffer = torch::zeros({kLayers * kWidth * kWidth + kWidth + 5}, device);
    int64_t offset = 0;
    for (Tensor& parameter : gradients.parameters) {
      parameter.mutable_grad() =
          gradients.buffer.slice(0, offset, offset + parameter.numel()).view(parameter.sizes());
      offset += parameter.numel();
    }
  }

  Tensor loss(const Tensor& rows) const {
    Tensor x = rows.to(unused.device());
    for (const Tensor& layer : layers) {
      x = torch::tanh(x.matmul(layer));
    }
    return x.square().sum();
  }

  std::vector<Tensor> layers;
  Tensor unused;
  FlatGradients gradients;
};

Tensor rows_of_step(int step) {
  torch::manual_seed(100 + step);
  return torch::randn({16, Model::kWidth});
}

/// The gradients of a step's 16 rows, in micro-batches of 2, by one process.
Tensor expected_gradients(int step) {
  Model model;
  for (const Tensor& rows : rows_of_step(step).split(2)) {
    model.loss(rows).backward();
  }
  return model.gradients.buffer / 16;
}

TEST(GradientReducer, equals_one_process) {
  if (!runs_as_rank({2, 4})) {
    return;
  }
  const auto group = ProcessGroup::from_environment(test_device());
  Model model(group->device());
  GradientReducer reducer(group, {model.gradients}, {.bucket_bytes = 8000});
  EXPECT_GE(reducer.bucket_count(), 3);
  for (int step = 0; step < 4; ++step) {
    model.gradients.buffer.zero_();
    const auto micro_batches = rows_of_step(step).chunk(group->size())[group->rank()].split(2);
    for (size_t i = 0; i < micro_batches.size(); ++i) {
      if (i + 1 == micro_batches.size() && step != 2) {  // step 2 reduces all in finish()
        reducer.begin();
      }
      model.loss(micro_batches[i]).backward();
    }
    reducer.finish(1.0 / 16);
    const Tensor expected = expected_gradients(step);
    EXPECT_TRUE(model.gradients.buffer.cpu().allclose(expected, 1e-5, 1e-6)) << "step " << step;
  }
  const ReductionTimes times = reducer.times();
  EXPECT_EQ(times.steps, 4);
  EXPECT_GT(times.under_way, 0);
  EXPECT_GE(times.hidden_share(), 0);
  EXPECT_LE(times.hidden_share(), 1);
}

TEST(GradientReducer, runs_while_the_backward_pass_does) {
  if (!runs_as_rank({2})) {
    return;
  }
  const auto group = ProcessGroup::from_environment(test_device());
  constexpr int64_t kElements = 4'000'000;
  Tensor early = torch::ones({kElements}, group->device()).requires_grad_(),
         late = torch::ones({8}, group->device()).requires_grad_();
  FlatGradients gradients{torch::zeros({kElements + 8}, group->device()), {early, late}};
  early.mutable_grad() = gradients.buffer.slice(0, 0, kElements);
  late.mutable_grad() = gradients.buffer.slice(0, kElements);
  GradientReducer reducer(group, {gradients}, {.bucket_bytes = 1000});
  ASSERT_EQ(reducer.bucket_count(), 2);
  group->barrier();
  reducer.begin();
  const Tensor slow = late.sum();
  slow.register_hook([](const Tensor&) {  // as a layer whose backward pass takes long
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  });
  (slow * early).sum().backward();
  reducer.finish(1);
  EXPECT_TRUE(early.grad().eq(16).all().item<bool>());
  const ReductionTimes times = reducer.times();
  EXPECT_GT(times.hidden_share(), 0.5)
      << times.under_way << " s, blocked " << times.blocked << " s";
}

TEST(GradientReducer, refuses_a_second_backward_pass_and_lost_views) {
  if (!runs_as_rank({2})) {
    return;
  }
  const auto group = ProcessGroup::from_environment(test_device());
  Model model(group->device());
  GradientReducer reducer(group, {model.gradients});
  reducer.begin();
  model.loss(rows_of_step(0)).backward();
  EXPECT_THROW(model.loss(rows_of_step(0)).backward(), std::exception);
  reducer.finish(1);
  reducer.begin();
  model.layers[0].mutable_grad() = Tensor();
  EXPECT_THROW(model.loss(rows_of_step(0)).backward(), std::exception);
  reducer.finish(1);
}

TEST(GradientReducer, one_process_only_scales) {
  Model model;
  GradientReducer reducer(ProcessGroup::single(torch::kCPU), {model.gradients});
  for (const Tensor& rows : rows_of_step(0).split(2)) {
    model.loss(rows).backward();
  }
  reducer.begin();
  reducer.finish(1.0 / 16);
  EXPECT_TRUE(model.gradients.buffer.allclose(expected_gradients(0)));
  EXPECT_EQ(reducer.times().hidden_share(), 1);
}

TEST(GradientBuckets, cover_the_buffer_in_whole_parameters) {
  const Model model;
  const auto buckets = cut_into_buckets({model.gradients}, 8000);  // two layers of 4096 bytes
  ASSERT_EQ(buckets.size(), 3);
  EXPECT_EQ(buckets[0].parameters.size(), 2);
  EXPECT_EQ(buckets[1].parameters.size(), 3);  // one is small
  int64_t elements = 0;
  for (const GradientBucket& bucket : buckets) {
    EXPECT_EQ(bucket.gradients.storage_offset(), elements);
    elements += bucket.gradients.numel();
  }
  EXPECT_EQ(elements, model.gradients.buffer.numel());
  EXPECT_EQ(cut_into_buckets({model.gradients}, 1 << 20).size(), 1);
}

TEST(GradientBuckets, refuse_gradients_elsewhere) {
  const auto refused = [](const auto& change) {
    Model model;
    change(model.gradients);
    EXPECT_THROW(cut_into_buckets({model.gradients}, 8000), Error);
  };
  refused([](FlatGradients& flat) { std::swap(flat.parameters[0], flat.parameters[1]); });
  refused([](FlatGradients& flat) { flat.parameters[2].mutable_grad() = Tensor(); });
  refused([](FlatGradients& flat) {
    flat.parameters[2].mutable_grad() = flat.parameters[2].grad().clone();
  });
  refused([](FlatGradients& flat) {
    flat.parameters[0].mutable_grad() = flat.parameters[0].grad().t();
  });
  refused([](FlatGradients& flat) { flat.buffer = flat.buffer.view({-1, 1}); });
}

}  // namespace
}  // namespace ssa
