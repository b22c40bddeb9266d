#include "nn/low_rank.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <limits>

#include "base/error.h"
#include "support/compare.h"

namespace ssa {
namespace {

using Parts = std::vector<LowRank::Part>;

constexpr double kScale = 0.7;

/// Restores the instruction set in use.
class PackedLowRank : public ::testing::TestWithParam<InstructionSet> {
 protected:
  void SetUp() override { set_instruction_set(GetParam()); }
  void TearDown() override { set_instruction_set(before_); }

 private:
  InstructionSet before_ = instruction_set();
};

const Parts kLayouts[] = {{{48, true}},
                          {{7, true}},
                          {{40, true}, {16, true}, {17, true}},
                          {{33, false}, {20, true}, {5, false}, {64, true}},
                          {{3, true}, {50, false}}};

int64_t n_out(const Parts& parts) {
  int64_t n = 0;
  for (const LowRank::Part& part : parts) {
    n += part.n_out;
  }
  return n;
}

/// Two updates of the same numbers.
struct Pair {
  Pair(const Parts& parts, int64_t n_in, int64_t rank, torch::ScalarType dtype)
      : reference(parts, n_in, rank, kScale, dtype, std::make_shared<LowRankSwitch>()),
        packed(parts, n_in, rank, kScale, dtype, std::make_shared<LowRankSwitch>()) {
    reference.a.copy_(torch::randn(reference.a.sizes()) / std::sqrt(static_cast<double>(n_in)));
    reference.b.copy_(torch::randn(reference.b.sizes()));
    packed.a.copy_(reference.a);
    packed.b.copy_(reference.b);
  }
  LowRank reference, packed;
};

/// Calls fn for ranks, layouts and numbers of tokens.
template <class Fn>
void for_each_case(const Fn& fn) {
  torch::manual_seed(5);
  for (int64_t rank = 1; rank <= 32; rank += rank < 4 ? 1 : rank < 16 ? 4 : 16) {
    for (const Parts& parts : kLayouts) {
      for (const int64_t n_tokens : {1, 3, 8}) {
        for (const int64_t n_in : {50, 576}) {
          SCOPED_TRACE(testing::Message() << "rank " << rank << ", " << n_out(parts) << " outputs, "
                                          << n_tokens << " tokens, " << n_in << " inputs");
          fn(parts, n_in, rank, n_tokens);
        }
      }
    }
  }
}

/// The update of y, in float64.
Tensor exact_update(const LowRank& of, const Parts& parts, const Tensor& x) {
  Tensor sum = torch::zeros({x.size(0), n_out(parts)}, torch::kFloat64);
  int64_t first = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].adapted) {
      const Tensor a = of.a_of(i).to(torch::kFloat64), b = of.b_of(i).to(torch::kFloat64);
      sum.narrow(1, first, parts[i].n_out).add_(x.to(torch::kFloat64).mm(a.t()).mm(b.t()), kScale);
    }
    first += parts[i].n_out;
  }
  return sum;
}

TEST_P(PackedLowRank, AddsToPlainWeightsWithOneRounding) {
  const torch::NoGradGuard no_grad;
  for (const auto& [dtype, tolerance] :
       {std::pair{torch::kFloat32, 2e-6}, {torch::kBFloat16, 4e-3}}) {
    for_each_case([&](const Parts& parts, int64_t n_in, int64_t rank, int64_t n_tokens) {
      Pair pair(parts, n_in, rank, dtype);
      pair.packed.pack(dtype, PackedUpdate::Form::kPlain);
      const Tensor x = torch::randn({n_tokens, n_in}).to(dtype);
      const Tensor weight = (torch::randn({n_out(parts), n_in}) * 0.02).to(dtype);
      const Tensor base = torch::linear(x, weight).to(torch::kFloat64);
      const Tensor exact = base + exact_update(pair.reference, parts, x);
      const double largest = exact.abs().max().item<double>();
      EXPECT_TRUE(all_close(pair.packed.linear(x, weight, Tensor()), exact, tolerance * largest));
      EXPECT_TRUE(
          all_close(pair.reference.linear(x, weight, Tensor()), exact, 6 * tolerance * largest));
    });
  }
}

TEST_P(PackedLowRank, AddsToWeightsIn8BitsUpToTheirRounding) {
  const torch::NoGradGuard no_grad;
  for (const torch::ScalarType dtype : {torch::kFloat32, torch::kBFloat16}) {
    for_each_case([&](const Parts& parts, int64_t n_in, int64_t rank, int64_t n_tokens) {
      Pair pair(parts, n_in, rank, dtype);
      pair.packed.pack(dtype, PackedUpdate::Form::kInt8);
      std::vector<PackedMatrix> weights;
      for (const LowRank::Part& part : parts) {
        weights.push_back(
            PackedMatrix::quantize(torch::randn({part.n_out, n_in}) * 0.02, dtype, "weights"));
      }
      const Tensor x = torch::randn({n_tokens, n_in}).to(dtype);
      const Tensor bias = torch::randn({n_out(parts)}).to(dtype);
      const Tensor error = pair.packed.linear(x, weights, bias).to(torch::kFloat64) -
                           packed_linear(x, weights, bias).to(torch::kFloat64) -
                           exact_update(pair.reference, parts, x);
      const Tensor size = pair.reference.linear(x, weights, bias).to(torch::kFloat64);
      EXPECT_LT((error.norm() / size.norm()).item<double>(), 3e-2);
    });
  }
}

TEST_P(PackedLowRank, LeavesLayersWithoutUpdateAlone) {
  const torch::NoGradGuard no_grad;
  Pair pair({{33, false}, {20, true}}, 64, 8, torch::kFloat32);
  pair.packed.pack(torch::kFloat32, PackedUpdate::Form::kInt8);
  const std::vector<PackedMatrix> weights = {
      PackedMatrix::quantize(torch::randn({33, 64}), torch::kFloat32, "first"),
      PackedMatrix::quantize(torch::randn({20, 64}), torch::kFloat32, "second")};
  const Tensor x = torch::randn({2, 64});
  const Tensor base = packed_linear(x, weights, Tensor()),
               updated = pair.packed.linear(x, weights, Tensor());
  EXPECT_TRUE(torch::equal(updated.narrow(1, 0, 33), base.narrow(1, 0, 33)));
  EXPECT_GT(largest_difference(updated.narrow(1, 33, 20), base.narrow(1, 33, 20)), 0.1);
}

INSTANTIATE_TEST_SUITE_P(InstructionSets,
                         PackedLowRank,
                         ::testing::ValuesIn(available_instruction_sets()),
                         [](const auto& instance) {
                           return std::string(instruction_set_name(instance.param));
                         });

TEST(LowRankTest, ManyTokensAndGradientsTakeWhatIsTrained) {
  Pair pair({{20, true}}, 64, 4, torch::kFloat32);
  pair.packed.pack(torch::kFloat32, PackedUpdate::Form::kPlain);
  const Tensor weight = torch::randn({20, 64});
  {
    const torch::NoGradGuard no_grad;
    const Tensor x = torch::randn({cpu::kMaxTokens + 1, 64});
    EXPECT_TRUE(torch::equal(pair.packed.linear(x, weight, Tensor()),
                             pair.reference.linear(x, weight, Tensor())));
  }
  const Tensor x = torch::randn({2, 64}).requires_grad_();
  pair.packed.linear(x, weight, Tensor()).sum().backward();
  EXPECT_TRUE(x.grad().defined());
}

/// Against the update in the weights: wider and narrower than the input, layers without update
/// between others, ranks that are no unit of a GPU's, a bias or none.
TEST(LowRankTest, GradientsAreThoseOfWeightsWithTheUpdate) {
  torch::manual_seed(8);
  for (const Parts& parts : kLayouts) {
    for (const int64_t rank : {3, 8}) {
      for (const bool biased : {false, true}) {
        SCOPED_TRACE(testing::Message() << n_out(parts) << " outputs, rank " << rank);
        constexpr int64_t kIn = 30, kTokens = 11;
        Pair pair(parts, kIn, rank, torch::kFloat64);
        LowRank& update = pair.reference;
        update.a.requires_grad_();
        update.b.requires_grad_();
        const Tensor x = torch::randn({kTokens, kIn}, torch::kFloat64).requires_grad_(),
                     weight = torch::randn({n_out(parts), kIn}, torch::kFloat64),
                     bias = biased ? torch::randn({n_out(parts)}, torch::kFloat64) : Tensor();
        std::vector<Tensor> rows;
        int64_t first = 0;
        for (size_t i = 0; i < parts.size(); ++i) {
          const Tensor own = weight.narrow(0, first, parts[i].n_out);
          rows.push_back(parts[i].adapted ? own + kScale * update.b_of(i).mm(update.a_of(i)) : own);
          first += parts[i].n_out;
        }
        const Tensor plain = torch::linear(x, torch::cat(rows), bias),
                     y = update.linear(x, weight, bias), d_y = torch::randn_like(plain);
        EXPECT_TRUE(all_close(y, plain, 1e-12));
        const std::vector<Tensor> inputs = {x, update.a, update.b};
        const auto expected = torch::autograd::grad({plain}, inputs, {d_y}),
                   gradients = torch::autograd::grad({y}, inputs, {d_y});
        for (size_t i = 0; i < inputs.size(); ++i) {
          EXPECT_TRUE(all_close(gradients[i], expected[i], 1e-11)) << i;
        }
      }
    }
  }
}

TEST(LowRankTest, RefusesWeightsThatAreNotFiniteIn8Bits) {
  LowRank update({{20, true}}, 64, 4, 1.0, torch::kFloat32, std::make_shared<LowRankSwitch>());
  update.b[3][2] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(update.pack(torch::kFloat32, PackedUpdate::Form::kInt8), Error);
}

}  // namespace
}  // namespace ssa
