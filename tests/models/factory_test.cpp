#include "models/factory.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/tiny_model.h"

namespace ssa {
namespace {

const GoldenModel& golden() {
  static const GoldenModel model = open_golden_model("llama-gqa3-tied-llama3");
  return model;
}

TEST(LoadModel, NamesTheTensorThatIsMissing) {
  MemoryCheckpoint checkpoint(*golden().checkpoint);
  checkpoint.tensors().erase("model.layers.1.mlp.up_proj.weight");
  expect_error([&] { load_model(checkpoint); },
               "model.layers.1.mlp.up_proj.weight: expected [48, 48], found nothing");
}

TEST(LoadModel, NamesTheTensorThatIsMisshapen) {
  MemoryCheckpoint checkpoint(*golden().checkpoint);
  checkpoint.tensors()["model.layers.0.self_attn.k_proj.weight"] = torch::zeros({48, 64});
  expect_error([&] { load_model(checkpoint); },
               "model.layers.0.self_attn.k_proj.weight: expected [64, 48], found [48, 64]");
}

TEST(LoadModel, RefusesTypesItCannotComputeWith) {
  MemoryCheckpoint checkpoint(*golden().checkpoint);
  const HostTensor norm = to_host(torch::zeros({48}, torch::kInt16));
  class Unsigned : public MemoryCheckpoint {
   public:
    using MemoryCheckpoint::MemoryCheckpoint;
    HostTensor tensor(const std::string& name) const override {
      HostTensor host = MemoryCheckpoint::tensor(name);
      host.dtype = host.dtype == DType::kI16 ? DType::kU16 : host.dtype;
      return host;
    }
  };
  checkpoint.tensors()["model.norm.weight"] = to_tensor(norm);
  expect_error([&] { load_model(Unsigned(checkpoint)); }, "U16");
}

TEST(LoadModel, ATiedModelNeedsNoOutputLayer) {
  MemoryCheckpoint checkpoint(*golden().checkpoint);
  checkpoint.tensors()["lm_head.weight"] = torch::zeros({1});  // some files hold one all the same
  const auto model = load_model(checkpoint);
  EXPECT_FALSE(model->named_parameters().contains("lm_head.weight"));
}

TEST(LoadModel, ParametersAreMemoryOfTheirOwn) {
  const MemoryCheckpoint checkpoint(*golden().checkpoint);
  const auto model = load_model(checkpoint, {.dtype = torch::kBFloat16});
  for (const auto& parameter : model->named_parameters()) {
    parameter.value().zero_();
  }
  EXPECT_GT(to_tensor(checkpoint.tensor("model.norm.weight")).abs().sum().item<double>(), 0);
}

TEST(LoadModel, TypeAndProgressAreAsAskedFor) {
  const uint64_t bytes = parameter_bytes(golden().checkpoint->config(), torch::kBFloat16);
  int64_t last = 0;
  const auto progress = [&](int64_t done, int64_t total) {
    EXPECT_GT(done, last);
    EXPECT_EQ(total, static_cast<int64_t>(bytes));
    last = done;
  };
  const auto model =
      load_model(*golden().checkpoint, {.dtype = torch::kBFloat16, .progress = progress});
  EXPECT_EQ(last, static_cast<int64_t>(bytes));
  EXPECT_EQ(model->dtype(), torch::kBFloat16);
  EXPECT_EQ(model->config().n_heads, 6);
}

TEST(ParameterCount, CountsWhatTheModelHolds) {
  for (const std::string& name : kGoldenModels) {
    const GoldenModel tiny = open_golden_model(name);
    uint64_t count = 0;
    for (const Tensor& parameter : load_model(*tiny.checkpoint)->parameters()) {
      count += static_cast<uint64_t>(parameter.numel());
    }
    EXPECT_EQ(parameter_count(tiny.checkpoint->config()), count) << name;
    EXPECT_EQ(parameter_bytes(tiny.checkpoint->config(), torch::kFloat64), 8 * count) << name;
  }
}

}  // namespace
}  // namespace ssa
