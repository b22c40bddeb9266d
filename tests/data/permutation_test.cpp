#include "data/permutation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "data/row_random.h"
#include "data/source_schedule.h"

namespace ssa {
namespace {

std::vector<uint64_t> list(const Permutation& permutation) {
  std::vector<uint64_t> values;
  for (uint64_t i = 0; i < permutation.size(); ++i) {
    values.push_back(permutation(i));
  }
  return values;
}

TEST(Permutation, ReachesEveryNumberOnce) {
  for (const uint64_t n : {1, 2, 3, 4, 5, 16, 17, 62, 125, 1000, 4097}) {
    std::vector<uint64_t> values = list(Permutation(n, n * 31));
    std::sort(values.begin(), values.end());
    for (uint64_t i = 0; i < n; ++i) {
      ASSERT_EQ(values[i], i) << "of " << n;
    }
  }
}

TEST(Permutation, KeysGiveDifferentOrders) {
  EXPECT_NE(list(Permutation(100, 1)), list(Permutation(100, 2)));
  EXPECT_EQ(list(Permutation(100, 1)), list(Permutation(100, 1)));
}

/// The place of a number is even over all places: chi-square with 9 degrees of freedom stays below
/// 33 but for one key set in 10^4.
TEST(Permutation, PlacesAreEven) {
  constexpr int kKeys = 10000;
  std::vector<double> counts(10);
  for (int key = 0; key < kKeys; ++key) {
    ++counts[Permutation(10, static_cast<uint64_t>(key))(3)];
  }
  double chi_square = 0;
  for (const double count : counts) {
    chi_square += std::pow(count - kKeys / 10.0, 2) / (kKeys / 10.0);
  }
  EXPECT_LT(chi_square, 33);
}

TEST(Permutation, WorksOnSizesPast32Bits) {
  const Permutation permutation((uint64_t{1} << 40) + 5, 7);
  for (uint64_t i = 0; i < 100; ++i) {
    EXPECT_LT(permutation(i), permutation.size());
  }
}

TEST(RowRandom, BelowStaysBelow) {
  RowRandom random(1);
  std::vector<int> counts(3);
  for (int i = 0; i < 3000; ++i) {
    ++counts[random.below(3)];
    const double unit = random.unit();
    EXPECT_TRUE(unit >= 0 && unit < 1);
  }
  EXPECT_GT(*std::min_element(counts.begin(), counts.end()), 900);
}

TEST(RowRandom, OrderOfSeedsCounts) {
  EXPECT_NE(mix_seeds({1, 2}), mix_seeds({2, 1}));
  EXPECT_NE(mix_seeds({0}), mix_seeds({0, 0}));
}

TEST(SourceSchedule, SharesFollowWeights) {
  const SourceSchedule schedule({6, 3, 1, 1e-9}, 5);
  EXPECT_NEAR(schedule.share(0), 0.6, 0.002);
  EXPECT_NEAR(schedule.share(1), 0.3, 0.002);
  EXPECT_NEAR(schedule.share(2), 0.1, 0.002);
  EXPECT_EQ(schedule.share(3), 1.0 / 1024);
}

/// Draws count up without gaps, and n_draws() knows the count without looking.
TEST(SourceSchedule, DrawsOfASourceCountUp) {
  const SourceSchedule schedule({2, 1, 5}, 3);
  std::vector<uint64_t> n_draws(3);
  for (uint64_t row = 0; row < 3000; ++row) {
    for (uint64_t source = 0; source < 3; ++source) {
      ASSERT_EQ(schedule.n_draws(source, row), n_draws[source]);
    }
    const SourceSchedule::Turn turn = schedule.turn(row);
    ASSERT_EQ(turn.draw, n_draws[turn.source]++);
  }
}

TEST(SourceSchedule, OneSourceIsDrawnInOrder) {
  const SourceSchedule schedule({3}, 9);
  EXPECT_EQ(schedule.turn(5000).draw, 5000U);
}

}  // namespace
}  // namespace ssa
