#include "selection/cpu/top_k.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace ssa::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

using Bits = std::vector<uint64_t>;

Bits empty_bits(int64_t n) {
  return Bits((n + 63) / 64, 0);
}

Bits top_k(InstructionSet set, const std::vector<float>& scores, int64_t k) {
  const auto n = static_cast<int64_t>(scores.size());
  Bits bits = empty_bits(n);
  std::vector<float> scratch(n + 64, NAN);
  top_k_kernels(set).top_k(scores.data(), n, k, bits.data(), scratch.data());
  return bits;
}

/// The contract, word for word.
Bits sorted_top_k(const std::vector<float>& scores, int64_t k) {
  std::vector<int64_t> order;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!std::isnan(scores[i])) {
      order.push_back(static_cast<int64_t>(i));
    }
  }
  std::stable_sort(
      order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  order.resize(std::min<size_t>(order.size(), static_cast<size_t>(k)));
  Bits bits = empty_bits(static_cast<int64_t>(scores.size()));
  for (const int64_t i : order) {
    bits[i / 64] |= uint64_t{1} << (i % 64);
  }
  return bits;
}

using Generator = float (*)(std::mt19937& random, int64_t i);

struct Kind {
  const char* name;
  Generator generate;
};

float normal(std::mt19937& random, int64_t /*i*/) {
  return std::normal_distribution<float>()(random);
}

constexpr Kind kKinds[] = {
    {"normal", normal},
    {"few different",
     [](std::mt19937& random, int64_t /*i*/) { return std::round(normal(random, 0)); }},
    {"all equal", [](std::mt19937& /*random*/, int64_t /*i*/) { return 0.5F; }},
    {"zeros of both signs",
     [](std::mt19937& random, int64_t /*i*/) { return random() % 2 == 0 ? 0.0F : -0.0F; }},
    {"rising", [](std::mt19937& /*random*/, int64_t i) { return static_cast<float>(i); }},
    {"falling", [](std::mt19937& /*random*/, int64_t i) { return static_cast<float>(-i); }},
    {"half NaN",
     [](std::mt19937& random, int64_t i) { return random() % 2 == 0 ? NAN : normal(random, i); }},
    {"negative NaN",
     [](std::mt19937& random, int64_t i) { return random() % 2 == 0 ? -NAN : normal(random, i); }},
    {"only NaN", [](std::mt19937& /*random*/, int64_t /*i*/) { return NAN; }},
    {"infinities",
     [](std::mt19937& random, int64_t i) {
       const auto choice = random() % 4;
       return choice == 0 ? kInf : choice == 1 ? -kInf : choice == 2 ? NAN : normal(random, i);
     }},
    {"only -infinity", [](std::mt19937& /*random*/, int64_t /*i*/) { return -kInf; }},
    {"tiny", [](std::mt19937& random, int64_t i) { return normal(random, i) * 1e-42F; }},
    {"what the sample does not see",
     [](std::mt19937& random, int64_t i) {
       return i % 4 == 0 ? normal(random, i) - 100 : normal(random, i);
     }},
    {"what it sees alone",
     [](std::mt19937& random, int64_t i) {
       return i % 4 == 0 ? normal(random, i) + 100 : normal(random, i);
     }},
    {"any bits",
     [](std::mt19937& random, int64_t /*i*/) {
       const auto bits = static_cast<uint32_t>(random());
       float value;
       std::memcpy(&value, &bits, sizeof value);
       return value;
     }},
};

class TopK : public ::testing::TestWithParam<InstructionSet> {};

TEST_P(TopK, IsWhatSortingGives) {
  std::mt19937 random(1);
  for (const Kind& kind : kKinds) {
    for (const int64_t n : {0, 1, 7, 15, 16, 17, 63, 64, 65, 1000, 2047, 2048, 4096 + 13}) {
      std::vector<float> scores(n);
      for (int64_t i = 0; i < n; ++i) {
        scores[i] = kind.generate(random, i);
      }
      for (const int64_t k : {int64_t{0}, int64_t{1}, int64_t{2}, n / 50, n / 3, n - 1, n, n + 5}) {
        ASSERT_EQ(top_k(GetParam(), scores, std::max<int64_t>(k, 0)),
                  sorted_top_k(scores, std::max<int64_t>(k, 0)))
            << kind.name << ", n " << n << ", k " << k;
      }
    }
  }
}

TEST_P(TopK, OfMany) {
  std::mt19937 random(2);
  std::vector<float> scores(70001);
  std::generate(scores.begin(), scores.end(), [&] { return normal(random, 0); });
  for (const int64_t k : {1, 16, 200, 3000}) {
    ASSERT_EQ(top_k(GetParam(), scores, k), sorted_top_k(scores, k)) << k;
  }
}

TEST_P(TopK, LeavesOtherBitsAsTheyAre) {
  const std::vector<float> scores = {1, 3, 2, 4};
  std::vector<float> scratch(scores.size() + 64);
  uint64_t bits = uint64_t{1} << 63 | 1;
  top_k_kernels(GetParam()).top_k(scores.data(), 4, 2, &bits, scratch.data());
  EXPECT_EQ(bits, uint64_t{1} << 63 | 0b1011);
}

INSTANTIATE_TEST_SUITE_P(All,
                         TopK,
                         ::testing::ValuesIn(available_instruction_sets()),
                         [](const auto& test) {
                           return std::string(instruction_set_name(test.param));
                         });

}  // namespace
}  // namespace ssa::cpu
