#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "support/expect_error.h"

namespace ssa {
namespace {

using Logits = std::vector<float>;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

int64_t greedy(const Logits& logits) {
  Sampler sampler({});
  return sampler.sample(logits);
}

/// Which tokens come up in many draws.
std::set<int64_t> drawn(const SamplingOptions& options, const Logits& logits) {
  Sampler sampler(options);
  std::set<int64_t> tokens;
  for (int i = 0; i < 2000; ++i) {
    tokens.insert(sampler.sample(logits));
  }
  return tokens;
}

/// Logits of the given probabilities.
Logits log_of(const std::vector<double>& probabilities) {
  Logits logits;
  for (const double p : probabilities) {
    logits.push_back(static_cast<float>(std::log(p)));
  }
  return logits;
}

using Tokens = std::set<int64_t>;

TEST(Sampler, GreedyTakesTheLargestAndOfEqualsTheFirst) {
  EXPECT_EQ(greedy({1, 3, 2}), 1);
  EXPECT_EQ(greedy({1, 3, 3, 2, 3}), 1);
  EXPECT_EQ(greedy({-kInf, -5, -kInf}), 1);
  EXPECT_EQ(greedy({0}), 0);
}

TEST(Sampler, GreedyIgnoresTheOtherSettings) {
  Sampler sampler({.temperature = 0, .top_k = 2, .top_p = 0.1, .min_p = 0.5, .seed = 9});
  EXPECT_EQ(sampler.sample(Logits{1, 2, 5, 4}), 2);
}

TEST(Sampler, LogitsThatAreNoNumbersAreAnError) {
  for (const double temperature : {0.0, 1.0}) {
    for (const Logits& logits : {Logits{0, kNaN}, Logits{0, kInf, 1}, Logits{-kInf, -kInf}}) {
      Sampler sampler({.temperature = temperature});
      expect_error([&] { sampler.sample(logits); }, "logits");
    }
  }
  expect_error([] { greedy({}); }, "no logits");
}

struct Filter {
  const char* name;
  SamplingOptions options;
  Tokens kept;
};

TEST(Sampler, FiltersKeepTheTokensTheyShould) {
  const Logits logits = log_of({0.05, 0.4, 0.1, 0.3, 0.15});  // best first: 1 3 4 2 0
  const Filter filters[] = {
      {"no filter", {.temperature = 1}, {0, 1, 2, 3, 4}},
      {"top-k 1", {.temperature = 1, .top_k = 1}, {1}},
      {"top-k 3", {.temperature = 1, .top_k = 3}, {1, 3, 4}},
      {"top-k beyond the vocabulary", {.temperature = 1, .top_k = 99}, {0, 1, 2, 3, 4}},
      {"top-p of next to nothing keeps one", {.temperature = 1, .top_p = 1e-9}, {1}},
      {"top-p below the first's share", {.temperature = 1, .top_p = 0.39}, {1}},
      {"top-p passes 0.4 with the second", {.temperature = 1, .top_p = 0.5}, {1, 3}},
      {"top-p passes 0.7 with the third", {.temperature = 1, .top_p = 0.8}, {1, 3, 4}},
      {"top-p 1", {.temperature = 1, .top_p = 1}, {0, 1, 2, 3, 4}},
      {"min-p 0.5 of 0.4", {.temperature = 1, .min_p = 0.5}, {1, 3}},
      {"min-p 0.2 of 0.4", {.temperature = 1, .min_p = 0.2}, {1, 2, 3, 4}},
      {"min-p 1 keeps the best", {.temperature = 1, .min_p = 1}, {1}},
      {"top-p counts among what top-k left", {.temperature = 1, .top_k = 2, .top_p = 0.55}, {1}},
      {"heat lets min-p pass more", {.temperature = 100, .min_p = 0.5}, {0, 1, 2, 3, 4}},
      {"cold is nearly greedy", {.temperature = 0.01}, {1}},
      {"so cold that others have no weight", {.temperature = 1e-300}, {1}},
  };
  for (const Filter& filter : filters) {
    EXPECT_EQ(drawn(filter.options, logits), filter.kept) << filter.name;
  }
}

TEST(Sampler, OfEqualLogitsTheLowerIdsAreKept) {
  EXPECT_EQ(drawn({.temperature = 1, .top_k = 2}, {1, 1, 1, 1}), Tokens({0, 1}));
  EXPECT_EQ(drawn({.temperature = 1, .min_p = 1}, {0, 1, 1}), Tokens({1, 2}));
}

TEST(Sampler, ForbiddenTokensAreNeverDrawn) {
  EXPECT_EQ(drawn({.temperature = 5}, {-kInf, 1, -kInf, 0}), Tokens({1, 3}));
}

TEST(Sampler, DrawsByProbability) {
  const std::vector<double> probabilities = {0.5, 0.1, 0.25, 0.15};
  Sampler sampler({.temperature = 2.0, .seed = 11});
  Logits logits = log_of(probabilities);
  for (float& logit : logits) {
    logit *= 2;  // undone by the temperature
  }
  constexpr int kDraws = 20000;
  std::vector<int> counts(4);
  for (int i = 0; i < kDraws; ++i) {
    ++counts[static_cast<size_t>(sampler.sample(logits))];
  }
  for (size_t i = 0; i < 4; ++i) {
    const double p = probabilities[i], deviation = std::sqrt(p * (1 - p) / kDraws);
    EXPECT_NEAR(counts[i] / double{kDraws}, p, 4 * deviation) << i;
  }
}

TEST(Sampler, SeedsDecide) {
  const auto draw = [](uint64_t seed) {
    Sampler sampler({.temperature = 1, .seed = seed});
    std::vector<int64_t> tokens;
    for (int i = 0; i < 50; ++i) {
      tokens.push_back(sampler.sample(Logits{0, 0, 0, 0}));
    }
    return tokens;
  };
  EXPECT_EQ(draw(5), draw(5));
  EXPECT_NE(draw(5), draw(6));
  // The same on every machine: the top two bits of mt19937_64, whose values the standard fixes.
  std::mt19937_64 random(5);
  for (const int64_t token : draw(5)) {
    EXPECT_EQ(token, static_cast<int64_t>(random() >> 62));
  }
}

TEST(Sampler, RepetitionPenaltyIsTransformers) {
  // RepetitionPenaltyLogitsProcessor: what was seen is divided by the penalty if positive, else
  // multiplied, once.
  Sampler sampler({.repetition_penalty = 2.0});
  const Logits logits = {4, 3, -1, -1.5};
  EXPECT_EQ(sampler.sample(logits), 0);
  sampler.observe(0);
  sampler.observe(0);
  EXPECT_EQ(sampler.sample(logits), 1);                // 2 3 -1 -1.5
  EXPECT_EQ(sampler.sample(Logits{4, 1.5, 0, 0}), 0);  // 2 1.5: once, however often it was seen
  sampler.observe(1);
  EXPECT_EQ(sampler.sample(logits), 0);  // 2 1.5
  sampler.observe(2);
  EXPECT_EQ(sampler.sample(Logits{-9, -9, -1, -1.5}), 3);  // -18 -18 -2 -1.5
  Sampler indifferent({.repetition_penalty = 1.0});
  indifferent.observe(0);
  EXPECT_EQ(indifferent.sample(logits), 0);
}

TEST(SamplingOptions, ValuesOutOfRangeAreNamed) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  const std::pair<SamplingOptions, const char*> wrong[] = {
      {{.temperature = -0.1}, "temperature -0.1"},
      {{.temperature = kNaN}, "temperature nan"},
      {{.temperature = inf}, "temperature inf"},
      {{.top_k = -1}, "top-k -1"},
      {{.top_p = 0}, "top-p 0"},
      {{.top_p = 1.5}, "top-p 1.5"},
      {{.min_p = -1}, "min-p -1"},
      {{.min_p = 2}, "min-p 2"},
      {{.repetition_penalty = 0}, "penalty 0"},
      {{.repetition_penalty = inf}, "penalty inf"},
  };
  for (const auto& [options, part] : wrong) {
    expect_error([&] { validate(options); }, part);
    expect_error([&] { Sampler{options}; }, part);
  }
}

}  // namespace
}  // namespace ssa
