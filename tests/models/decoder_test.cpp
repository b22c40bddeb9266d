// Models against the logits that transformers (for llama-nsa: tools/reference) computed.
#include "models/decoder.h"

#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>

#include "growing_attention.h"
#include "models/factory.h"
#include "support/compare.h"
#include "support/tiny_model.h"

namespace ssa {
namespace {

/// Logits of all tokens, in passes of the given sizes.
Tensor logits_in_passes(CausalLM& model, const Tensor& ids, const std::vector<int64_t>& passes) {
  GrowingAttention attention(model.config().n_layers);
  std::vector<Tensor> rows;
  int64_t done = 0;
  for (const int64_t n : passes) {
    const Tensor hidden =
        model.forward(ids.narrow(0, done, n), torch::arange(done, done + n), attention);
    rows.push_back(model.logits(hidden));
    done += n;
  }
  return torch::cat(rows);
}

class GoldenModelTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::shared_ptr<CausalLM> load(torch::ScalarType dtype) const {
    return load_model(*golden_.checkpoint, {.dtype = dtype});
  }
  Tensor known_rows(const Tensor& logits) const { return logits.index_select(0, golden_.rows); }

  const GoldenModel golden_ = open_golden_model(GetParam());
};

TEST_P(GoldenModelTest, LogitsAreThoseOfTransformers) {
  const torch::InferenceMode inference;
  const auto model = load(torch::kFloat32);
  const Tensor whole = logits_in_passes(*model, golden_.ids, {512});
  EXPECT_EQ(whole.sizes(), at::IntArrayRef({512, model->config().vocab_size}));
  EXPECT_TRUE(all_close(known_rows(whole), golden_.logits, 1e-4));
  const Tensor pieces = logits_in_passes(*model, golden_.ids, {1, 62, 187, 255, 7});
  EXPECT_TRUE(all_close(known_rows(pieces), golden_.logits, 1e-4));
  std::vector<int64_t> decode(129, 1);
  decode[0] = 512 - 128;
  const Tensor decoded = logits_in_passes(*model, golden_.ids, decode);
  EXPECT_TRUE(all_close(known_rows(decoded), golden_.logits, 1e-4));
}

TEST_P(GoldenModelTest, Float64DiffersByFloat32RoundingAlone) {
  const torch::InferenceMode inference;
  const auto model = load(torch::kFloat64);
  const Tensor whole = logits_in_passes(*model, golden_.ids, {512});
  EXPECT_EQ(whole.scalar_type(), torch::kFloat64);
  EXPECT_TRUE(all_close(known_rows(whole), golden_.logits, 5e-5));
  EXPECT_TRUE(all_close(logits_in_passes(*model, golden_.ids, {500, 1, 11}), whole, 1e-12));
}

TEST_P(GoldenModelTest, BFloat16StaysNearFloat64) {
  const torch::InferenceMode inference;
  const auto exact = load(torch::kFloat64), rounded = load(torch::kBFloat16);
  const Tensor ids = golden_.ids.narrow(0, 0, 64);
  const Tensor expected = logits_in_passes(*exact, ids, {64});
  const Tensor actual = logits_in_passes(*rounded, ids, {64});
  EXPECT_EQ(actual.scalar_type(), torch::kBFloat16);
  const Tensor error = actual.to(torch::kFloat64) - expected;
  // Some 30 roundings on the way, each of 2^-9 in the mean, if they all added up.
  EXPECT_LT((error.norm() / expected.norm()).item<double>(), 30 * 0x1p-9);
}

TEST_P(GoldenModelTest, ParametersCarryTheFilesNames) {
  const auto model = load(torch::kFloat32);
  std::vector<std::string> names;
  for (const auto& parameter : model->named_parameters()) {
    names.push_back(parameter.key());
    EXPECT_TRUE(
        torch::equal(parameter.value(),
                     to_tensor(golden_.checkpoint->tensor(parameter.key())).to(torch::kFloat32)))
        << parameter.key();
    EXPECT_FALSE(parameter.value().requires_grad());
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, golden_.checkpoint->tensor_names());
}

TEST_P(GoldenModelTest, GradientsReachEveryParameter) {
  const auto model = load(torch::kFloat64);
  const Tensor ids = golden_.ids.narrow(0, 0, 33);
  const Tensor expected = [&] {
    const torch::InferenceMode inference;
    return logits_in_passes(*model, ids, {33});
  }();
  for (Tensor& parameter : model->parameters()) {
    parameter.requires_grad_();
  }
  const Tensor logits = logits_in_passes(*model, ids, {33});
  EXPECT_TRUE(all_close(logits.detach(), expected.clone(), 1e-12));
  torch::nn::functional::cross_entropy(logits, ids.roll(-1)).backward();
  for (const auto& parameter : model->named_parameters()) {
    ASSERT_TRUE(parameter.value().grad().defined()) << parameter.key();
    EXPECT_GT(parameter.value().grad().abs().max().item<double>(), 0) << parameter.key();
  }
}

INSTANTIATE_TEST_SUITE_P(,
                         GoldenModelTest,
                         ::testing::ValuesIn(kGoldenModels),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace ssa
