// Numbers that can be worked out by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "evaluation/answer_metrics.h"
#include "evaluation/bootstrap.h"
#include "support/expect_error.h"

namespace ssa {
namespace {

TEST(AnswerMetrics, FollowSquad) {
  EXPECT_EQ(normalize_answer("  The U.S. Army,\nan \"Answer\" "), "us army answer");
  struct Case {
    const char* answer;
    std::vector<std::string> gold;
    bool exact;
    double f1;
    bool contains;
  };
  const Case cases[] = {
      {"The 12345.", {"12345"}, true, 1.0, true},
      {"the code is 12345", {"12345"}, false, 0.5, true},  // code is 12345: 1 of 3, and 1 of 1
      {"red red blue", {"red blue blue"}, false, 2.0 / 3.0, false},
      {"Paris", {"London", "paris"}, true, 1.0, true},  // the best of several
      {"", {"Paris"}, false, 0.0, false},
      {"the", {"an"}, true, 1.0, true},  // nothing is left of either
      {"unrelated words", {"Paris"}, false, 0.0, false},
  };
  for (const Case& one : cases) {
    const AnswerScores scores = score_answer(one.answer, one.gold);
    EXPECT_EQ(scores.exact, one.exact) << one.answer;
    EXPECT_NEAR(scores.f1, one.f1, 1e-12) << one.answer;
    EXPECT_EQ(scores.contains, one.contains) << one.answer;
  }
}

ItemRatios numbers(int n, double first, double step) {
  ItemRatios items;
  for (int i = 0; i < n; ++i) {
    items.add(first + step * (i % 10));
  }
  return items;
}

/// Of a mean: as wide as the normal approximation says.
TEST(Bootstrap, IntervalOfAMean) {
  const ItemRatios items = numbers(400, 0, 1);  // mean 4.5, standard deviation 2.872
  const Interval interval = bootstrap_interval(items);
  EXPECT_DOUBLE_EQ(interval.value, 4.5);
  const double half = 1.96 * std::sqrt(8.25 / 400);
  EXPECT_NEAR(interval.low, 4.5 - half, 0.02);
  EXPECT_NEAR(interval.high, 4.5 + half, 0.02);
  EXPECT_EQ(bootstrap_interval(items).low, interval.low) << "the seed is fixed";
}

/// Items that differ by the same amount: no doubt about the difference, however wide each mean is.
TEST(Bootstrap, PairsItems) {
  const ItemRatios a = numbers(50, 1, 1), b = numbers(50, 0.75, 1);
  const Interval difference = bootstrap_difference(a, b);
  EXPECT_NEAR(difference.low, 0.25, 1e-12);
  EXPECT_NEAR(difference.high, 0.25, 1e-12);
  expect_error([&] { bootstrap_difference(a, numbers(49, 0, 1)); }, "50 items against 49");
}

TEST(Bootstrap, RatioOfSumsAndNothing) {
  ItemRatios items;
  items.add(1, 2);
  items.add(5, 2);
  EXPECT_DOUBLE_EQ(bootstrap_interval(items).value, 1.5);
  EXPECT_TRUE(std::isnan(bootstrap_interval({}).value));
}

}  // namespace
}  // namespace ssa
