#include "selection/cpu/block_shares.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace ssa::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr double kTwoTo64 = 18446744073709551616.0;

template <class Fn>
void for_each_set(const Fn& fn) {
  for (const InstructionSet set : available_instruction_sets()) {
    SCOPED_TRACE(instruction_set_name(set));
    fn(share_kernels(set));
  }
}

TEST(BlockShares, LargestPassesOverNaNAndFillsUp) {
  for_each_set([](const ShareKernels& kernels) {
    std::vector<float> scores = {kNaN, -3, 7, kNaN, 2, 100, 100, 100, 0, 0, 0, 0, 0, 0, 0, 0};
    EXPECT_EQ(kernels.largest(scores.data(), 5), 7);
    for (size_t i = 5; i < scores.size(); ++i) {
      EXPECT_EQ(scores[i], -kInf) << i;
    }
    std::vector<float> none(16, kNaN);
    EXPECT_EQ(kernels.largest(none.data(), 16), -kInf);
    EXPECT_EQ(kernels.largest(none.data(), 0), -kInf);
  });
}

TEST(BlockShares, WeightsAreExponentials) {
  for_each_set([](const ShareKernels& kernels) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 30);
    for (const int64_t n : {1, 15, 16, 100, 512}) {
      std::vector<float> scores(528);
      for (float& score : scores) {
        score = normal(random);
      }
      const std::vector<float> before = scores;
      const float largest = kernels.largest(scores.data(), n);
      const float sum = kernels.weigh(scores.data(), n, largest, 0.7F);
      double expected_sum = 0;
      for (int64_t i = 0; i < n; ++i) {
        const double expected =
            kTwoTo64 * std::exp((static_cast<double>(before[i]) - largest) * 0.7F);
        EXPECT_NEAR(scores[i], expected, 1e-5 * expected + 1e-37) << before[i] - largest;
        expected_sum += expected;
      }
      EXPECT_NEAR(sum, expected_sum, 1e-5 * expected_sum);
    }
  });
}

TEST(BlockShares, InfinitiesShareAlikeAndNaNStays) {
  for_each_set([](const ShareKernels& kernels) {
    std::vector<float> scores = {1, kInf, kNaN, kInf, -kInf};
    scores.resize(16);
    EXPECT_EQ(kernels.weigh(scores.data(), 5, kInf, 1), 2);
    EXPECT_EQ(scores[0], 0);
    EXPECT_EQ(scores[1], 1);
    EXPECT_TRUE(std::isnan(scores[2]));
    EXPECT_EQ(scores[3], 1);
    EXPECT_EQ(scores[4], 0);

    std::vector<float> low = {-kInf, kNaN, -kInf};
    low.resize(16, -kInf);
    EXPECT_EQ(kernels.weigh(low.data(), 3, -kInf, 1), 2);

    std::vector<float> mixed = {kNaN, 0, -kInf};
    mixed.resize(16, -kInf);
    EXPECT_FLOAT_EQ(kernels.weigh(mixed.data(), 3, 0, 1), static_cast<float>(kTwoTo64));
    EXPECT_TRUE(std::isnan(mixed[0]));
  });
}

TEST(BlockShares, EqualScoresWeighTheSameWhereverTheyStand) {
  for_each_set([](const ShareKernels& kernels) {
    std::vector<float> scores(112, 0.37F);
    scores[50] = 3;
    kernels.weigh(scores.data(), 112, 3, 0.125F);
    std::vector<float> importance(112);
    const float factor = 0.3F;
    kernels.add_rows(scores.data(), 112, 1, &factor, 112, importance.data());
    for (size_t i = 0; i < 112; ++i) {
      EXPECT_EQ(importance[i], importance[i == 50 ? 50 : 0]) << i;
    }
  });
}

TEST(BlockShares, AddsRowsTimesFactors) {
  for_each_set([](const ShareKernels& kernels) {
    constexpr int64_t kN = 150, kStride = 176, kRows = 5;
    std::vector<float> weights(kStride * kRows), importance(160);
    for (size_t i = 0; i < weights.size(); ++i) {
      weights[i] = static_cast<float>(i % 13);
    }
    weights[2 * kStride + 70] = kNaN;
    const std::vector<float> factors = {1, 0.5F, 2, 4, 0.25F};
    kernels.add_rows(weights.data(), kStride, kRows, factors.data(), kN, importance.data());
    for (int64_t i = 0; i < kN; ++i) {
      float expected = 0;
      for (int64_t row = 0; row < kRows; ++row) {
        expected += weights[row * kStride + i] * factors[row];
      }
      EXPECT_TRUE(i == 70 ? std::isnan(importance[i]) : importance[i] == expected) << i;
    }
  });
}

}  // namespace
}  // namespace ssa::cpu
