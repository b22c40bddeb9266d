// The whole suffix at once against the reference, query by query.
#include "selection/unfold_mask.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "support/compare.h"
#include "support/expect_error.h"

namespace ssa {
namespace {

constexpr int64_t kKvHeads = 2, kHeadDim = 8;

/// Chunks of uneven length, several pieces that close all levels, a raw suffix.
GistLayout ragged_layout(const ChunkSizes& chunk, int64_t n_suffix, std::mt19937& random) {
  GistLayout layout(chunk, {100, 101, 102});
  const auto up_to = [&](int64_t most) {
    return 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(most));
  };
  for (int piece = 0; piece < 3; ++piece) {
    const int64_t n_chunks = up_to(12);
    for (int64_t i = 0; i < n_chunks; ++i) {
      layout.append_raw(std::vector<int64_t>(static_cast<size_t>(up_to(2 * chunk[0])), 7));
      layout.append_gist(0);
      bool closes = true;
      for (int level = 1; level < layout.n_levels() && closes; ++level) {
        closes = i + 1 == n_chunks || layout.n_open(level) >= chunk[static_cast<size_t>(level)];
        if (closes) {
          layout.append_gist(level);
        }
      }
    }
  }
  layout.append_raw(std::vector<int64_t>(static_cast<size_t>(n_suffix), 7));
  return layout;
}

/// Small whole numbers: scores are exact, and many are equal.
Tensor random_numbers(at::IntArrayRef shape, torch::ScalarType type, bool whole) {
  return whole ? torch::randint(-2, 3, shape).to(type) : torch::randn(shape, type);
}

/// [n_kv_heads, n_queries, n_keys] as select_gists() and attended_keys() have it.
Tensor reference(const ChunkView& view,
                 const MaskRule& rule,
                 const SelectionOptions& options,
                 const SuffixQueries& queries,
                 const Tensor& q,
                 const Tensor& k) {
  const int64_t group = q.size(1) / kKvHeads, shift = view.has_gists ? 0 : view.layout.n_gists();
  const std::vector<Tensor> scores = PivotBank(view, options.pivot, k).scores(q);
  Tensor mask = torch::zeros({kKvHeads, q.size(0), k.size(1)}, torch::kBool);
  auto cells = mask.accessor<bool, 3>();
  for (int64_t row = 0; row < q.size(0); ++row) {
    const int64_t index = queries.range.begin + row;
    const bool generated = index >= queries.n_prompt;
    std::vector<int64_t> top_k;
    for (int level = 0; level < view.layout.n_levels(); ++level) {
      top_k.push_back(top_k_of_level(options,
                                     level,
                                     generated ? index + 1 : queries.n_prompt,
                                     view.layout.n_gists(level),
                                     group,
                                     view.layout.chunk_sizes()));
    }
    for (int64_t head = 0; head < kKvHeads; ++head) {
      GroupScores of_group;
      for (const Tensor& level : scores) {
        const Tensor part = level[row].narrow(0, head * group, group).contiguous();
        const auto* begin = part.const_data_ptr<double>();
        of_group.emplace_back(begin, begin + part.numel());
      }
      const KeptGists kept = select_gists(view.layout, of_group, group, top_k, options);
      for (const int64_t key : attended_keys(view, rule, kept, index + shift, generated)) {
        cells[head][row][key] = true;
      }
    }
  }
  return mask;
}

TEST(UnfoldMask, AttendsWhatTheReferenceAttends) {
  std::mt19937 random(3);
  torch::manual_seed(3);
  const std::vector<ChunkSizes> chunks = {{4}, {3, 2}, {2, 2, 2}};
  const std::vector<Pivot> pivots = {
      Pivot::kGist, Pivot::kMean, Pivot::kQuest, Pivot::kRecent, Pivot::kRandom};
  for (int trial = 0; trial < 150; ++trial) {
    const int64_t group = 1 + trial % 3, n_suffix = 1 + static_cast<int64_t>(random() % 9);
    const GistLayout layout =
        ragged_layout(chunks[static_cast<size_t>(trial) % 3], n_suffix, random);
    SelectionOptions options;
    options.pivot = pivots[static_cast<size_t>(trial / 3) % 5];
    const bool has_gists = options.pivot == Pivot::kGist || trial % 2 == 0;
    if (trial % 4 == 1) {
      options.budget = 4 * (1 + trial % 7);
    } else if (trial % 4 == 2) {
      options.ratio = 2.0;
    }
    options.by = trial % 5 == 4 ? (trial % 2 == 0 ? SelectBy::kGroupSum : SelectBy::kGroupMax)
                                : SelectBy::kHead;
    const MaskRule rule{trial % 11 == 0 ? -1 : trial % 6, trial % 3};
    const int64_t n_keys = has_gists ? layout.n_tokens() : layout.n_raw();
    const SuffixQueries queries{{n_keys - n_suffix, n_keys},
                                n_keys - static_cast<int64_t>(random() % 4)};
    const auto type = trial % 2 == 0 ? torch::kFloat64 : torch::kFloat32;
    const Tensor q = random_numbers({n_suffix, kKvHeads * group, kHeadDim}, type, trial % 7 < 3);
    Tensor k = random_numbers({kKvHeads, n_keys, kHeadDim}, type, trial % 7 < 3);
    if (trial % 5 == 2) {
      k.select(1, n_keys / 3).fill_(std::numeric_limits<double>::quiet_NaN());
      k.select(1, layout.gists(0).front() % n_keys).fill_(-INFINITY);
    }
    const ChunkView view{layout, has_gists};
    const UnfoldMask mask(view, rule, options, queries, group, torch::kCPU);
    EXPECT_TRUE(torch::equal(mask.attended(q, k), reference(view, rule, options, queries, q, k)))
        << "trial " << trial;
    if (has_gists && queries.n_prompt == n_keys) {
      EXPECT_TRUE(torch::equal(unfold_mask(q, k, layout, rule, options), mask.attended(q, k)));
    }
  }
}

TEST(UnfoldMask, SaysWhatItDoesNotOffer) {
  std::mt19937 random(1);
  const GistLayout layout = ragged_layout({4}, 2, random);
  const SuffixQueries queries{{layout.n_tokens() - 2, layout.n_tokens()}, layout.n_tokens()};
  const auto make = [&](const SelectionOptions& options) {
    UnfoldMask({layout, true}, {}, options, queries, 1, torch::kCPU);
  };
  expect_error([&] { make({.mass = 0.5}); }, "by mass");
  expect_error([&] { make({.by = SelectBy::kGroupSoftmax}); }, "group-softmax");
}

/// Means, and bounds by channel, chunk by chunk.
TEST(PivotBank, ScoresMeansAndBounds) {
  std::mt19937 random(5);
  torch::manual_seed(5);
  const GistLayout layout = ragged_layout({3, 2}, 1, random);
  const Tensor k = torch::randn({kKvHeads, layout.n_tokens(), kHeadDim}, torch::kFloat64);
  const Tensor q = torch::randn({2, kKvHeads, kHeadDim}, torch::kFloat64);
  const ChunkView view{layout, true};
  const Tensor means = PivotBank(view, Pivot::kMean, k).scores(q)[1];
  const Tensor bounds = PivotBank(view, Pivot::kQuest, k).scores(q)[1];
  for (int64_t gist = 0; gist < layout.n_gists(1); ++gist) {
    const Range children = layout.children(1, gist);
    std::vector<Tensor> parts;
    for (int64_t child = children.begin; child < children.end; ++child) {
      const Range tokens = layout.chunk(0, child);
      parts.push_back(k.slice(1, tokens.begin, tokens.end));
    }
    const Tensor raw = torch::cat(parts, 1);                    // [n_kv_heads, n, head_dim]
    const Tensor products = q.unsqueeze(2) * raw.unsqueeze(0);  // [2, n_kv_heads, n, head_dim]
    EXPECT_TRUE(all_close(means.select(2, gist), products.sum(3).mean(2), 1e-12));
    EXPECT_TRUE(all_close(bounds.select(2, gist), products.amax(2).sum(2), 1e-12));
  }
}

}  // namespace
}  // namespace ssa
