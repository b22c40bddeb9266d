// Block selection against an oracle spelled out query by query, scores made to be hard.
#include "selection/block_selection.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "support/compare.h"
#include "support/expect_error.h"

namespace ssa {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

using Blocks = std::set<int64_t>;
using Numbers = std::vector<double>;

/// One head's shares; NaN stays NaN.
Numbers shares_of(const Numbers& scores) {
  double highest = -kInfinity, sum = 0;
  for (const double score : scores) {
    highest = std::fmax(highest, score);
  }
  Numbers shares;
  for (const double score : scores) {
    const double weight = std::isnan(score)     ? 0
                          : std::isinf(highest) ? (score == highest ? 1 : 0)
                                                : std::exp(score - highest);
    sum += weight;
    shares.push_back(std::isnan(score) ? kNan : weight);
  }
  for (double& share : shares) {
    share /= sum;
  }
  return shares;
}

/// Adds the n most important of blocks [begin, end); `importance` says NaN for what is never
/// chosen.
void take_best(const Numbers& importance, int64_t begin, int64_t end, int64_t n, Blocks& taken) {
  const auto value = [&](int64_t block) { return importance[static_cast<size_t>(block)]; };
  for (int64_t place = 0; place < n; ++place) {
    int64_t best = -1;
    for (int64_t block = begin; block < end; ++block) {
      const bool free = !taken.contains(block) && !std::isnan(value(block));
      if (free && (best < 0 || value(block) > value(best))) {
        best = block;
      }
    }
    if (best >= 0) {
      taken.insert(best);
    }
  }
}

/// Section 2 of the method's description, for one query and one group: scores [head][block].
Blocks spelled_choice(const std::vector<Numbers>& scores, int64_t t, const BlockOptions& options) {
  const int64_t size = options.block_size, n = t / size, n_ranked = (t + 1) / size;
  Numbers importance(static_cast<size_t>(n_ranked), 0.0);
  for (const Numbers& head : scores) {
    const Numbers shares = shares_of(Numbers(head.begin(), head.begin() + n_ranked));
    for (size_t block = 0; block < shares.size(); ++block) {
      importance[block] += shares[block];
    }
  }
  importance.resize(static_cast<size_t>(n) + 1);
  importance.back() = kInfinity;  // G, and first among equals
  Blocks taken;
  if (options.rule == BlockRule::kExact) {
    take_best(importance, 0, n + 1, options.n_blocks, taken);
    return taken;
  }
  int64_t places = 1;
  while (places < options.n_blocks) {
    places *= 2;
  }
  if (places < size || n < size) {
    take_best(importance, 0, n + 1, places, taken);
  } else {
    const int64_t cut = n / size * size;
    take_best(importance, 0, cut, size / 2, taken);
    take_best(importance, cut, n + 1, size / 2, taken);
  }
  return taken;
}

/// Rows of a result, checked to be rising and padded at the end.
Blocks row_of(const Tensor& blocks, int64_t token, int64_t kv_head) {
  const Tensor row = blocks[token][kv_head].to(torch::kCPU).contiguous();
  Blocks found;
  bool ended = false;
  int64_t before = -1;
  for (int64_t i = 0; i < row.numel(); ++i) {
    const auto block = row[i].item<int64_t>();
    EXPECT_FALSE(ended && block >= 0) << "a block behind padding";
    ended = block < 0;
    if (!ended) {
      EXPECT_GT(block, before);
      before = block;
      found.insert(block);
    }
  }
  return found;
}

std::vector<Numbers> scores_of(const Tensor& scores,
                               int64_t token,
                               int64_t kv_head,
                               int64_t group) {
  std::vector<Numbers> rows;
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const Tensor row = scores[token][head].to(torch::kFloat64).contiguous();
    rows.emplace_back(row.const_data_ptr<double>(), row.const_data_ptr<double>() + row.numel());
  }
  return rows;
}

/// What makes scores hard, put on top of random ones [n_tokens, n_heads, n_blocks].
struct Spoiler {
  const char* name;
  void (*spoil)(Tensor& scores);
};

const std::vector<Spoiler> kSpoilers = {
    {"random", [](Tensor&) {}},
    {"all equal", [](Tensor& scores) { scores.zero_(); }},
    {"pairs of equal blocks",
     [](Tensor& scores) {
       const int64_t half = scores.size(2) / 2;
       scores.narrow(2, half, half).copy_(scores.narrow(2, 0, half).clone());
     }},
    {"far apart", [](Tensor& scores) { scores *= 20; }},
    {"all +inf", [](Tensor& scores) { scores.fill_(kInfinity); }},
    {"all -inf", [](Tensor& scores) { scores.fill_(-kInfinity); }},
    {"some +inf", [](Tensor& scores) { scores.masked_fill_(scores > 1.0, kInfinity); }},
    {"some -inf", [](Tensor& scores) { scores.masked_fill_(scores > 0.5, -kInfinity); }},
    {"some NaN", [](Tensor& scores) { scores.masked_fill_(scores > 1.0, kNan); }},
    {"NaN in one head", [](Tensor& scores) { scores.select(1, 0).fill_(kNan); }},
    {"all NaN", [](Tensor& scores) { scores.fill_(kNan); }},
};

const std::vector<BlockOptions> kRules = {
    {.block_size = 1, .n_blocks = 3},
    {.block_size = 4, .n_blocks = 1},
    {.block_size = 4, .n_blocks = 3},
    {.block_size = 4, .n_blocks = 1000},
    {.block_size = 7, .n_blocks = 2},
    {.block_size = 2, .n_blocks = 1, .rule = BlockRule::kPublished},
    {.block_size = 2, .n_blocks = 2, .rule = BlockRule::kPublished},
    {.block_size = 4, .n_blocks = 2, .rule = BlockRule::kPublished},
    {.block_size = 4, .n_blocks = 3, .rule = BlockRule::kPublished},
    {.block_size = 7, .n_blocks = 4, .rule = BlockRule::kPublished},
};

TEST(ChooseBlocks, IsTheSpelledOutChoice) {
  const int64_t n_tokens = 61, n_kv_heads = 2;
  for (const int64_t group : {1, 3}) {
    for (const Spoiler& spoiler : kSpoilers) {
      torch::manual_seed(1);
      const auto dtype = group == 1 ? torch::kFloat32 : torch::kFloat64;
      Tensor scores = torch::randn({n_tokens, n_kv_heads * group, n_tokens}, dtype);
      spoiler.spoil(scores);
      for (const BlockOptions& options : kRules) {
        const Tensor blocks = choose_blocks(scores, n_kv_heads, 0, options);
        for (int64_t t = 0; t < n_tokens; ++t) {
          for (int64_t kv_head = 0; kv_head < n_kv_heads; ++kv_head) {
            ASSERT_EQ(row_of(blocks, t, kv_head),
                      spelled_choice(scores_of(scores, t, kv_head, group), t, options))
                << spoiler.name << ", group " << group << ", blocks of " << options.block_size
                << ", " << options.n_blocks << " of them, query " << t;
          }
        }
      }
    }
  }
}

TEST(ChooseBlocks, PublishedRuleLeavesPlacesEmpty) {
  // Blocks of 16, 16 of them: 9 to 16 a query, 14.25 on average over a cycle of own blocks.
  const BlockOptions options{.rule = BlockRule::kPublished};
  const int64_t first = 16 * 32 + 5;
  const Tensor scores = torch::randn({16 * 16, 2, 50});
  const Tensor n_chosen = choose_blocks(scores, 1, first, options).ge(0).sum(2).to(torch::kFloat64);
  EXPECT_EQ(n_chosen.min().item<double>(), 9);
  EXPECT_EQ(n_chosen.max().item<double>(), 16);
  EXPECT_NEAR(n_chosen.mean().item<double>(), 14.25, 0.05);  // 5 tokens short of whole blocks
}

/// Queries, keys; the means of keys' blocks.
struct Problem {
  Tensor q, k;
};

Problem random_problem(int64_t n_tokens, torch::ScalarType dtype) {
  torch::manual_seed(2);
  return {torch::randn({n_tokens, 6, 8}).to(dtype), torch::randn({2, n_tokens, 8}).to(dtype)};
}

TEST(SelectBlocks, DoesNotDependOnPieces) {
  const int64_t n_tokens = 97;
  for (const auto dtype : {torch::kFloat32, torch::kFloat64, torch::kBFloat16}) {
    const auto [q, k] = random_problem(n_tokens, dtype);
    for (const BlockOptions& options : kRules) {
      const Tensor means = block_means(k, options.block_size);
      const Tensor whole = select_blocks(q, means, 0, 0.3, options);
      for (int64_t first = 0, n = 1; first < n_tokens;
           first += n, n = std::min(2 * n, n_tokens - first)) {
        const Tensor grown = block_means(k.narrow(1, 0, first + n), options.block_size);
        const Tensor piece = select_blocks(q.narrow(0, first, n), grown, first, 0.3, options);
        for (int64_t i = 0; i < n; ++i) {
          for (int64_t kv_head = 0; kv_head < 2; ++kv_head) {
            ASSERT_EQ(row_of(piece, i, kv_head), row_of(whole, first + i, kv_head));
          }
        }
      }
    }
  }
}

TEST(SelectBlocks, EqualBlocksTieWhereverTheyLie) {
  const int64_t n_blocks = 37;
  for (const auto dtype : {torch::kFloat32, torch::kFloat64, torch::kBFloat16}) {
    torch::manual_seed(3);
    const Tensor mean = torch::randn({1, 1, 64}).to(dtype).expand({1, n_blocks, 64});
    const Tensor q = torch::randn({5, 4, 64}).to(dtype);
    const Tensor blocks = select_blocks(q, mean, 4 * n_blocks - 4, 0.125, {4, 5});
    for (int64_t i = 0; i < 4; ++i) {
      EXPECT_EQ(row_of(blocks, i, 0), (Blocks{0, 1, 2, 3, n_blocks - 1})) << dtype;
    }
  }
}

TEST(BlockMeans, CoverCompleteBlocksInWideNumbers) {
  const Tensor keys = torch::randn({2, 23, 8});
  for (const auto dtype : {torch::kFloat32, torch::kFloat64, torch::kBFloat16}) {
    const Tensor means = block_means(keys.to(dtype), 5);
    const Tensor plain = keys.to(dtype).to(torch::kFloat64).narrow(1, 0, 20).unflatten(1, {4, 5});
    EXPECT_EQ(means.scalar_type(), dtype);
    EXPECT_TRUE(all_close(means, plain.mean(2).to(dtype), dtype == torch::kBFloat16 ? 0.0 : 1e-6));
    EXPECT_TRUE(means.equal(block_means(keys.to(dtype).narrow(1, 0, 20), 5)));
  }
  EXPECT_EQ(block_means(keys.narrow(1, 0, 4), 5).size(1), 0);
}

TEST(ChosenBlocks, NameTheSameKeysAsMaskAndAsList) {
  const int64_t n_tokens = 45, first = 11, n_keys = n_tokens + first;
  torch::manual_seed(4);
  const Tensor scores = torch::randn({n_tokens, 6, n_keys});
  for (const BlockOptions& options : kRules) {
    const int64_t size = options.block_size;
    const Tensor blocks = choose_blocks(scores, 2, first, options);
    const Tensor mask = block_mask(blocks, first, n_keys, size);
    const Tensor keys = block_keys(blocks, first, size);
    ASSERT_EQ(mask.sizes(), (std::vector<int64_t>{2, n_tokens, n_keys}));
    ASSERT_EQ(keys.size(2), blocks.size(2) * size);
    for (int64_t kv_head = 0; kv_head < 2; ++kv_head) {
      for (int64_t i = 0; i < n_tokens; ++i) {
        Tensor spelled = torch::zeros({n_keys}, torch::kBool);
        for (const int64_t block : row_of(blocks, i, kv_head)) {
          for (int64_t key = block * size; key < (block + 1) * size && key <= first + i; ++key) {
            spelled[key] = true;
          }
        }
        const Tensor list = keys[i][kv_head];
        ASSERT_TRUE(mask[kv_head][i].equal(spelled));
        ASSERT_TRUE(list.masked_select(list >= 0).equal(spelled.nonzero().flatten()));
      }
    }
  }
}

TEST(BlockOptions, RefuseWhatNoRuleKnows) {
  const struct {
    BlockOptions options;
    const char* message;
  } cases[] = {
      {{.block_size = 0}, "block size 0: expected 1 to"},
      {{.block_size = -16}, "block size -16"},
      {{.n_blocks = 0}, "number of blocks 0: expected 1 to"},
      {{.n_blocks = int64_t{1} << 40}, "number of blocks 1099511627776"},
      {{.n_blocks = 17, .rule = BlockRule::kPublished}, "must not exceed the block size 16"},
      {{.block_size = 12, .n_blocks = 9, .rule = BlockRule::kPublished}, "number of blocks 9"},
      {{.block_size = 1, .n_blocks = 1, .rule = BlockRule::kPublished}, "2 tokens or more"},
  };
  for (const auto& [options, message] : cases) {
    expect_error([&, refused = options] { check_block_options(refused); }, message);
  }
  check_block_options({.block_size = 12, .n_blocks = 8, .rule = BlockRule::kPublished});
  check_block_options({.block_size = 1, .n_blocks = 1000});
}

}  // namespace
}  // namespace ssa
