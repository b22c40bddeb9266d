#include "nn/packed_matrix.h"

#include <gtest/gtest.h>

#include <limits>

#include "checkpoint/gguf_quants.h"
#include "nn/layers.h"
#include "support/compare.h"
#include "support/expect_error.h"

namespace ssa {
namespace {

Tensor unpacked(const PackedMatrix& matrix) {
  const Tensor out = torch::empty({matrix.n_rows(), matrix.n_columns()}, matrix.dtype());
  matrix.unpack(out);
  return out;
}

Tensor random_weights(int64_t n_rows, int64_t n_columns) {
  torch::manual_seed(5);
  return torch::randn({n_rows, n_columns}) * 0.1;
}

PackedMatrix pack(const Tensor& weights, torch::ScalarType dtype = torch::kFloat32) {
  return PackedMatrix::quantize(weights, dtype, "w");
}

TEST(PackedMatrix, KeepsWeightsToHalfAStep) {
  for (const int64_t n_columns : {32, 50, 96}) {
    for (const torch::ScalarType source : {torch::kFloat32, torch::kBFloat16, torch::kFloat64}) {
      const Tensor weights = random_weights(37, n_columns).to(source);
      const Tensor wide = weights.to(torch::kFloat32);
      const Tensor blocks =
          torch::constant_pad_nd(wide, {0, (32 - n_columns % 32) % 32}).unflatten(1, {-1, 32});
      const Tensor step =
          blocks.abs().amax(-1, true).div(127).expand_as(blocks).flatten(1).slice(1, 0, n_columns);
      // The f16 scale is off by 2^-11 at most, which the largest byte multiplies by 127.
      EXPECT_LE(((unpacked(pack(weights)) - wide).abs() / step).max().item<float>(),
                0.5 + 127 * 0x1p-11);
    }
  }
}

TEST(PackedMatrix, TakesAFilesBlocksAsTheyAre) {
  const std::vector<int64_t> shape = {18, 3 * 34};
  const auto bytes = std::make_shared<Tensor>(torch::randint(256, shape, torch::kUInt8));
  bytes->view({-1, 34}).select(1, 1).fill_(0x20);  // the scale's upper byte: about 2^-7
  const std::span<const std::byte> data(static_cast<const std::byte*>(bytes->const_data_ptr()),
                                        bytes->nbytes());
  const PackedMatrix matrix =
      PackedMatrix::from_blocks({DType::kU8, shape, data, bytes}, torch::kFloat32);
  const Tensor expected = torch::empty({18, 96});
  dequantize(GgufType::kQ8_0, data, {expected.mutable_data_ptr<float>(), 18 * 96});
  EXPECT_TRUE(torch::equal(unpacked(matrix), expected));
  const Tensor ids = torch::tensor({17, 0, 17, 5});
  EXPECT_TRUE(torch::equal(matrix.rows(ids), expected.index_select(0, ids)));
  EXPECT_THROW(matrix.rows(torch::tensor({18})), c10::Error);
}

TEST(PackedMatrix, RefusesWeightsThatAreNotNumbers) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e9F}) {
    Tensor weights = random_weights(20, 32);
    weights[19][3] = bad;
    expect_error([&] { PackedMatrix::quantize(weights, torch::kFloat32, "blk.up_proj.weight"); },
                 "blk.up_proj.weight");
  }
}

class PackedLinearTest : public ::testing::TestWithParam<torch::ScalarType> {};

TEST_P(PackedLinearTest, FewTokensAreNearThePlainProduct) {
  const torch::InferenceMode inference;
  const Tensor weights = random_weights(100, 96);
  const PackedMatrix matrix = pack(weights, GetParam());
  const Tensor exact_weights =
      unpacked(pack(weights)).to(torch::kFloat64);  // in float32, which holds them exactly
  const Tensor bias = torch::randn({100}).to(GetParam());
  for (int64_t n_tokens = 1; n_tokens <= 8; ++n_tokens) {
    const Tensor x = torch::randn({n_tokens, 96}).to(GetParam());
    const Tensor actual = packed_linear(x, {&matrix, 1}, bias);
    EXPECT_EQ(actual.scalar_type(), GetParam());
    const auto wide = [](const Tensor& t) { return t.to(torch::kFloat64); };
    const Tensor exact = torch::linear(wide(x), exact_weights, wide(bias));
    // Inputs are rounded to steps of largest / 16256, largest being near 2.2 deviations; bfloat16
    // rounds the result.
    const double allowed = GetParam() == torch::kBFloat16 ? 0x1p-9 : 5e-5;
    EXPECT_LT(((wide(actual) - exact).norm() / exact.norm()).item<double>(), allowed);
  }
}

TEST_P(PackedLinearTest, ManyTokensSeeTheWeightsAsNumbers) {
  const torch::InferenceMode inference;
  const PackedMatrix matrix = pack(random_weights(100, 50), GetParam());
  const Tensor x = torch::randn({9, 50}).to(GetParam());
  EXPECT_TRUE(torch::equal(packed_linear(x, {&matrix, 1}, {}), torch::linear(x, unpacked(matrix))));
}

TEST_P(PackedLinearTest, SeveralMatricesStandSideBySide) {
  const torch::InferenceMode inference;
  const std::vector<PackedMatrix> matrices = {pack(random_weights(40, 64), GetParam()),
                                              pack(random_weights(7, 64), GetParam()),
                                              pack(random_weights(17, 64), GetParam())};
  const Tensor bias = torch::randn({64}).to(GetParam());
  for (const int64_t n_tokens : {1, 3, 20}) {
    const Tensor x = torch::randn({n_tokens, 64}).to(GetParam());
    const auto one = [&](size_t i, int64_t row) {
      return packed_linear(x, {&matrices[i], 1}, bias.narrow(0, row, matrices[i].n_rows()));
    };
    const Tensor apart = torch::cat({one(0, 0), one(1, 40), one(2, 47)}, 1);
    const Tensor together = packed_linear(x, matrices, bias);
    EXPECT_TRUE(n_tokens <= 8 ? torch::equal(together, apart)
                              : bool(all_close(together, apart, 0.05)));
  }
}

INSTANTIATE_TEST_SUITE_P(Type,
                         PackedLinearTest,
                         ::testing::Values(torch::kFloat32, torch::kBFloat16));

TEST(PackedLinear, GradientsReachTheInput) {
  const PackedMatrix matrix = pack(random_weights(10, 32));
  const Tensor x = torch::randn({2, 32}).requires_grad_();
  packed_linear(x, {&matrix, 1}, {}).sum().backward();
  EXPECT_TRUE(all_close(x.grad(), unpacked(matrix).sum(0).expand({2, 32}), 1e-6));
}

TEST(PackedLinear, NoTokensGiveNoRows) {
  const PackedMatrix matrix = pack(random_weights(10, 32));
  EXPECT_EQ(packed_linear(torch::empty({0, 32}), {&matrix, 1}, {}).sizes(),
            at::IntArrayRef({0, 10}));
}

/// Gives every matrix but those named "plain" in 8 bits.
class PackedParameters : public ParameterSource {
 public:
  Tensor parameter(const std::string&, at::IntArrayRef shape) override {
    return random_weights(1, c10::multiply_integers(shape)).view(shape);
  }
  std::optional<PackedMatrix> packed_matrix(const std::string& name,
                                            at::IntArrayRef shape) override {
    return name.starts_with("plain") ? std::nullopt : std::optional(pack(parameter(name, shape)));
  }
};

TEST(PackedLayers, HoldTheirMatricesInEightBitsAlone) {
  const torch::InferenceMode inference;
  PackedParameters source;
  const Linear q(source, "q", 40, 32, true), k(source, "k", 8, 32, true);
  EXPECT_FALSE(q->weight.defined());
  EXPECT_EQ(q->named_parameters().size(), 1U);
  const Tensor x = torch::randn({2, 32});
  const std::vector<Tensor> outputs = FusedLinear({q, k}).forward(x);
  EXPECT_TRUE(torch::equal(outputs[0], q->forward(x)));
  EXPECT_TRUE(torch::equal(outputs[1], k->forward(x)));
  EXPECT_TRUE(torch::equal(q->rows(torch::tensor({3})), unpacked(*q->packed).narrow(0, 3, 1)));
}

TEST(PackedLayers, APlainPartAmongPackedOnesIsAnError) {
  PackedParameters source;
  const std::vector<Linear> parts = {Linear(source, "q", 3, 32, false),
                                     Linear(source, "plain", 2, 32, false)};
  EXPECT_THROW(FusedLinear{parts}, c10::Error);
}

}  // namespace
}  // namespace ssa
