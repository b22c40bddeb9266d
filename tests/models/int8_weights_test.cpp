// Models whose matrices are held in 8 bits, against the same models in float32.
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "checkpoint/gguf_save.h"
#include "growing_attention.h"
#include "models/factory.h"
#include "nn/packed_matrix.h"
#include "support/expect_error.h"
#include "support/tiny_model.h"

namespace ssa {
namespace {

/// The first tokens in one pass, the rest one by one.
Tensor logits_of(CausalLM& model, const Tensor& ids, int64_t n_prompt) {
  GrowingAttention attention(model.config().n_layers);
  std::vector<Tensor> rows;
  for (int64_t done = 0; done < ids.size(0);) {
    const int64_t n = done == 0 ? n_prompt : 1;
    rows.push_back(model.logits(
        model.forward(ids.narrow(0, done, n), torch::arange(done, done + n), attention)));
    done += n;
  }
  return torch::cat(rows);
}

double relative_error(const Tensor& actual, const Tensor& expected) {
  return ((actual.to(torch::kFloat64) - expected.to(torch::kFloat64)).norm() / expected.norm())
      .item<double>();
}

class Int8WeightsTest : public ::testing::TestWithParam<std::string> {
 protected:
  const GoldenModel golden_ = open_golden_model(GetParam());
  const Tensor ids_ = golden_.ids.narrow(0, 0, 96);
};

TEST_P(Int8WeightsTest, LogitsStayNear) {
  const torch::InferenceMode inference;
  const auto exact = load_model(*golden_.checkpoint);
  const auto packed = load_model(*golden_.checkpoint, {.weights = WeightKind::kInt8});
  const Tensor expected = logits_of(*exact, ids_, 96);
  // A step is 1/127 of the largest of 32 weights, some 2.1 deviations, so that a product errs by
  // 0.5%: ten, one behind the other, by 5% at most.
  EXPECT_LT(relative_error(logits_of(*packed, ids_, 96), expected), 0.05);
  EXPECT_LT(relative_error(logits_of(*packed, ids_, 32), expected), 0.05);
}

TEST_P(Int8WeightsTest, RoundingTheWeightsIsAllThatManyTokensSee) {
  const torch::InferenceMode inference;
  MemoryCheckpoint rounded(*golden_.checkpoint);
  for (auto& [name, tensor] : rounded.tensors()) {
    if (tensor.dim() == 2) {
      tensor =
          PackedMatrix::quantize(tensor, torch::kFloat32, name).rows(torch::arange(tensor.size(0)));
    }
  }
  const auto expected = load_model(rounded),
             packed = load_model(*golden_.checkpoint, {.weights = WeightKind::kInt8});
  EXPECT_LT(relative_error(logits_of(*packed, ids_, 96), logits_of(*expected, ids_, 96)), 1e-5);
}

TEST_P(Int8WeightsTest, MatricesAreHeldInEightBitsAlone) {
  const ModelConfig& config = golden_.checkpoint->config();
  uint64_t bytes = 0;
  int64_t reported = 0;
  const auto progress = [&](int64_t done, int64_t) { reported = done; };
  const auto model =
      load_model(*golden_.checkpoint,
                 {.dtype = torch::kBFloat16, .weights = WeightKind::kInt8, .progress = progress});
  EXPECT_EQ(model->dtype(), torch::kBFloat16);
  for (const auto& parameter : model->named_parameters()) {
    EXPECT_EQ(parameter.value().dim(), 1) << parameter.key();
    bytes += parameter.value().nbytes();
  }
  for (const std::string& name : golden_.checkpoint->tensor_names()) {
    const std::vector<int64_t> shape = golden_.checkpoint->tensor_shape(name);
    bytes += shape.size() == 2 ? PackedMatrix::bytes(shape[0], shape[1]) : 0;
  }
  EXPECT_EQ(parameter_bytes(config, torch::kBFloat16, WeightKind::kInt8), bytes);
  EXPECT_EQ(reported, static_cast<int64_t>(bytes));
}

INSTANTIATE_TEST_SUITE_P(,
                         Int8WeightsTest,
                         ::testing::ValuesIn(kGoldenModels),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Int8Weights, AFilesOwnBlocksAreKept) {
  const torch::InferenceMode inference;
  const GoldenModel golden =
      open_golden_model("llama-mha");  // whose q and k rows GGUF orders differently
  const auto file = std::filesystem::temp_directory_path() /
                    ("ssa_int8_weights_" + std::to_string(::getpid()) + ".gguf");
  save_gguf_checkpoint(*golden.checkpoint, file, {.type = "q8_0"});
  const auto stored = open_checkpoint(file);
  std::filesystem::remove(file);  // stays mapped
  for (const std::string name :
       {"model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"}) {
    const auto blocks = stored->int8_blocks(name);
    ASSERT_TRUE(blocks.has_value()) << name;
    const PackedMatrix matrix = PackedMatrix::from_blocks(*blocks, torch::kFloat32);
    EXPECT_TRUE(
        torch::equal(matrix.rows(torch::arange(matrix.n_rows())), to_tensor(stored->tensor(name))))
        << name;
  }
  EXPECT_FALSE(stored->int8_blocks("model.norm.weight").has_value());
  // Nothing is rounded a second time: many tokens see the file's own numbers.
  const auto exact = load_model(*stored),
             packed = load_model(*stored, {.weights = WeightKind::kInt8});
  EXPECT_LT(relative_error(logits_of(*packed, golden.ids, 512), logits_of(*exact, golden.ids, 512)),
            0.01);
}

TEST(Int8Weights, DevicesAndTypesThatLackThemAreNamed) {
  const GoldenModel golden = open_golden_model("llama-mha");
  expect_error(
      [&] {
        load_model(*golden.checkpoint, {.dtype = torch::kFloat64, .weights = WeightKind::kInt8});
      },
      "--weights int8 computes in f32 or bf16, not in Double");
  expect_error(
      [&] {
        load_model(*golden.checkpoint, {.weights = WeightKind::kInt8, .device = torch::kCUDA});
      },
      "--weights int8 runs on the CPU, not on cuda");
}

TEST(Int8Weights, AWeightThatIsNotANumberIsNamed) {
  MemoryCheckpoint checkpoint(*open_golden_model("llama-mha").checkpoint);
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  checkpoint.tensors()[name][3][4] = std::numeric_limits<float>::quiet_NaN();
  expect_error([&] { load_model(checkpoint, {.weights = WeightKind::kInt8}); }, name);
}

}  // namespace
}  // namespace ssa
