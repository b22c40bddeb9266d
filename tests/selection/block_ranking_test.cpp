// The CPU's ranking against the reference, on scores of all kinds.
#include "selection/cpu/block_ranking.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "base/cpu_features.h"
#include "selection/block_selection.h"

namespace ssa {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

using Generator = float (*)(std::mt19937& random);

struct Kind {
  const char* name;
  Generator generate;
};

void PrintTo(const Kind& kind, std::ostream* out) {
  *out << kind.name;
}

float normal(std::mt19937& random) {
  return std::normal_distribution<float>()(random);
}
int64_t die(std::mt19937& random, int64_t n) {
  return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
}

const Kind kKinds[] = {
    {"normal", normal},
    {"equal", [](std::mt19937&) { return 0.5F; }},
    {"few values", [](std::mt19937& random) { return static_cast<float>(die(random, 3)); }},
    {"spread", [](std::mt19937& random) { return 20 * normal(random); }},
    {"one of many", [](std::mt19937& random) { return die(random, 40) == 0 ? 4000.0F : 0.0F; }},
    {"not numbers",
     [](std::mt19937& random) { return die(random, 5) == 0 ? kNaN : normal(random); }},
    {"nothing but NaN", [](std::mt19937&) { return kNaN; }},
    {"infinities",
     [](std::mt19937& random) { return die(random, 30) == 0 ? kInf : normal(random); }},
    {"minus infinities",
     [](std::mt19937& random) { return die(random, 2) == 0 ? -kInf : normal(random); }},
    {"nothing but minus infinity", [](std::mt19937&) { return -kInf; }},
    {"all of these",
     [](std::mt19937& random) {
       const float values[] = {kNaN, kInf, -kInf, 0.0F, -0.0F, 1e-30F, normal(random), 50.0F};
       return values[die(random, 8)];
     }},
};

struct Query {
  int64_t first, n_tokens, group_size;
};

/// [n_tokens, group_size, n_ranked by the last].
Tensor random_scores(const Kind& kind, const Query& query, int64_t n_ranked) {
  std::mt19937 random(3);
  Tensor scores = torch::empty({query.n_tokens, query.group_size, n_ranked});
  auto* next = scores.mutable_data_ptr<float>();
  for (int64_t i = 0; i < scores.numel(); ++i) {
    *next++ = kind.generate(random);
  }
  return scores;
}

/// Blocks of each token, padded with -1: [n_tokens, 1, n_places].
Tensor rank(const Tensor& scores,
            const Query& query,
            const BlockOptions& options,
            int64_t n_places) {
  cpu::BlockRanking ranking;
  ranking.begin(options, {query.first, query.n_tokens, query.group_size, 1.0F});
  const Tensor rows = scores.flatten(0, 1);
  for (int64_t part = 0; part < ranking.n_parts(); ++part) {
    const int64_t n = ranking.n_blocks_in(part);
    for (int64_t row = 0; row < rows.size(0); ++row) {
      const float* from =
          rows.const_data_ptr<float>() + row * rows.size(1) + part * cpu::BlockRanking::kPartBlocks;
      std::copy_n(from, n, ranking.scores(part) + row * cpu::BlockRanking::kPartStride);
    }
    ranking.find_largest(part);
  }
  for (int64_t part = 0; part < ranking.n_parts(); ++part) {
    ranking.weigh(part);
  }
  Tensor chosen = torch::full({query.n_tokens, 1, n_places}, -1, torch::kInt64);
  std::vector<int64_t> blocks;
  for (int64_t token = 0; token < query.n_tokens; ++token) {
    ranking.choose(token, blocks);
    EXPECT_LE(static_cast<int64_t>(blocks.size()), n_places);
    std::copy(blocks.begin(), blocks.end(), chosen[token][0].data_ptr<int64_t>());
  }
  return chosen;
}

class BlockRankingTest : public ::testing::TestWithParam<Kind> {};

TEST_P(BlockRankingTest, ChoosesWhatTheReferenceChooses) {
  const BlockOptions all_options[] = {
      {16, 16, BlockRule::kExact},
      {16, 16, BlockRule::kPublished},
      {8, 5, BlockRule::kPublished},
      {32, 4, BlockRule::kExact},
      {4, 1, BlockRule::kExact},
      {2, 2, BlockRule::kPublished},
      {8, 2000, BlockRule::kExact},
  };
  const Query queries[] = {{0, 5, 3}, {30, 4, 1}, {255, 20, 1}, {300, 3, 16}, {5000, 2, 5}};
  for (const InstructionSet set : available_instruction_sets()) {
    set_instruction_set(set);
    for (const BlockOptions& options : all_options) {
      for (const Query& query : queries) {
        const int64_t last = query.first + query.n_tokens - 1;
        const Tensor scores =
            random_scores(GetParam(), query, ranked_blocks(last, options.block_size));
        const Tensor expected = choose_blocks(scores, 1, query.first, options);
        EXPECT_TRUE(rank(scores, query, options, expected.size(2)).equal(expected))
            << instruction_set_name(set) << ", block size " << options.block_size << ", "
            << options.n_blocks << " blocks, first token " << query.first;
      }
    }
  }
  set_instruction_set(available_instruction_sets().back());
}

INSTANTIATE_TEST_SUITE_P(, BlockRankingTest, ::testing::ValuesIn(kKinds));

}  // namespace
}  // namespace ssa
