#include "nn/rotary.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/json.h"
#include "checkpoint/rope_config.h"
#include "support/compare.h"

namespace ssa {
namespace {

Json golden() {
  return read_json_file(std::filesystem::path(SSA_GOLDEN_DIR) / "rope" / "rope.json");
}

Tensor to_vector(const Json& list) {
  return torch::tensor(list.get<std::vector<double>>());
}

Tensor to_matrix(const Json& rows) {
  std::vector<Tensor> all;
  for (const Json& row : rows) {
    all.push_back(to_vector(row));
  }
  return torch::stack(all);
}

TEST(Rotary, FrequenciesAndTablesAreTransformers) {
  const Json content = golden();
  const auto max_positions = content["max_position_embeddings"].get<int64_t>();
  const Tensor positions = torch::tensor(content["positions"].get<std::vector<int64_t>>());
  for (const Json& entry : content["cases"]) {
    SCOPED_TRACE(entry["name"].get<std::string>());
    const Json config = {{"rope_parameters", entry["rope_parameters"]}};
    const RotaryEmbedding rotary(parse_rope(config, max_positions),
                                 entry["head_dim"].get<int64_t>(),
                                 max_positions,
                                 torch::kCPU);
    const Tensor expected = to_vector(entry["inverse_frequencies"]);
    // float32 values, computed by the same operations but for the order of some products
    EXPECT_TRUE(
        all_close(rotary.inverse_frequencies() / expected, torch::ones_like(expected), 3e-7));
    EXPECT_NEAR(rotary.attention_factor(), entry["attention_factor"].get<double>(), 1e-12);
    const RotaryTable table = rotary.table(positions, torch::kFloat32);
    // At position 5000 one unit in the last place of a frequency near 1 is an angle of 5000 * 6e-8.
    EXPECT_TRUE(all_close(table.cos.squeeze(1), to_matrix(entry["cos"]), 1e-3));
    EXPECT_TRUE(all_close(table.sin.squeeze(1), to_matrix(entry["sin"]), 1e-3));
    EXPECT_TRUE(all_close(table.sin[1][0], to_matrix(entry["sin"])[1], 3e-7));
  }
}

TEST(Rotary, TablesComeInTheTypeAskedFor) {
  const RotaryEmbedding rotary({}, 32, 128, torch::kCPU);
  const Tensor positions = torch::arange(5);
  const RotaryTable exact = rotary.table(positions, torch::kFloat32);
  const RotaryTable rounded = rotary.table(positions, torch::kBFloat16);
  EXPECT_EQ(exact.cos.sizes(), at::IntArrayRef({5, 1, 32}));
  EXPECT_TRUE(torch::equal(rounded.cos, exact.cos.to(torch::kBFloat16)));
  EXPECT_TRUE(torch::equal(rounded.sin, exact.sin.to(torch::kBFloat16)));
}

TEST(Rotary, TurnsPairsHalfAHeadApart) {
  const RotaryEmbedding rotary({}, 4, 128, torch::kCPU);  // frequencies 1 and 0.01
  const Tensor x = torch::tensor({1.0, 0.0, 0.0, 1.0}, torch::kFloat64).view({1, 1, 4});
  const Tensor out = apply_rotary(x, rotary.table(torch::tensor({2}), torch::kFloat64));
  const Tensor expected = torch::tensor(
      {std::cos(2.0), -std::sin(0.02), std::sin(2.0), std::cos(0.02)}, torch::kFloat64);
  EXPECT_TRUE(all_close(out.flatten(), expected, 1e-7));
}

TEST(Rotary, ScoresDependOnDistanceAlone) {
  torch::manual_seed(1);
  const RotaryEmbedding rotary({}, 32, 128, torch::kCPU);
  const Tensor q = torch::randn({1, 3, 32}), k = torch::randn({1, 3, 32});
  const auto score = [&](int64_t at_q, int64_t at_k) {
    const auto turned = [&](const Tensor& x, int64_t at) {
      return apply_rotary(x, rotary.table(torch::tensor({at}), torch::kFloat32));
    };
    return (turned(q, at_q) * turned(k, at_k)).sum(-1);
  };
  EXPECT_TRUE(all_close(score(107, 100), score(7, 0), 1e-4));
  EXPECT_FALSE(all_close(score(107, 100), score(8, 0), 1e-1));
}

}  // namespace
}  // namespace ssa
