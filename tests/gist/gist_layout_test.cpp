#include "gist/gist_layout.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "gist/spelled_layout.h"

namespace ssa {
namespace {

template <class T>
std::vector<int64_t> widen(std::span<const T> values) {
  return {values.begin(), values.end()};
}

using Numbers = std::vector<int64_t>;

TEST(GistLayout, IsAsDrawn) {
  const GistLayout layout = read_layout("abc.de.:f.:|hi", {2, 2});
  EXPECT_EQ(widen(layout.levels()), (Numbers{-1, -1, -1, 0, -1, -1, 0, 1, -1, 0, 1, -1, -1}));
  EXPECT_EQ(widen(layout.positions()), (Numbers{0, 1, 2, 2, 3, 4, 4, 4, 5, 5, 5, 6, 7}));
  EXPECT_EQ(widen(layout.chunk_of(0)), (Numbers{0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3}));
  EXPECT_EQ(widen(layout.chunk_of(1)), (Numbers{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2}));
  EXPECT_EQ(widen(layout.gists(0)), (Numbers{3, 6, 9}));
  EXPECT_EQ(widen(layout.gists(1)), (Numbers{7, 10}));
  EXPECT_EQ(
      list_chunks(layout),
      (std::vector<GistChunk>{{0, {0, 3}}, {0, {4, 6}}, {1, {3, 7}}, {0, {8, 9}}, {1, {9, 10}}}));
  EXPECT_EQ(layout.children(1, 0), (Range{0, 2}));
  EXPECT_EQ(layout.children(1, 1), (Range{2, 3}));
  EXPECT_EQ(layout.raw_tokens(1), (Range{3, 5}));
  EXPECT_EQ(layout.parent(0, 1), 0);
  EXPECT_EQ(layout.parent(0, 2), 1);
  EXPECT_EQ(layout.parent(1, 1), -1);
  EXPECT_EQ(layout.prefix_end(), 11);
  EXPECT_EQ(layout.n_raw(), 8);
  EXPECT_EQ(layout.n_gists(), 5);
}

TEST(GistLayout, ThreeLevels) {
  const GistLayout layout = read_layout("a.b.:c.:*d.", {1, 2, 2});
  EXPECT_EQ(layout.chunk(2, 0), (Range{4, 8}));
  EXPECT_EQ(layout.children(2, 0), (Range{0, 2}));
  EXPECT_EQ(layout.children(1, 1), (Range{2, 3}));
  EXPECT_EQ(layout.parent(0, 3), -1) << "its group is still open";
  EXPECT_EQ(layout.prefix_end(), 9);
}

TEST(GistLayout, GrowsAndClosesAsItIsWritten) {
  GistLayout layout({2, 2}, {'.', ':'});
  EXPECT_EQ(layout.n_open(0), 0);
  EXPECT_EQ(layout.prefix_end(), 0);
  EXPECT_THROW(layout.append_gist(0), Error);
  layout.append_raw(ids_of("abc"));
  EXPECT_EQ(layout.n_open(0), 3);
  EXPECT_THROW(layout.append_gist(1), Error);
  EXPECT_EQ(layout.n_tokens(), 3) << "a refused gist leaves nothing behind";
  layout.append_gist(0);
  EXPECT_EQ(layout.n_open(0), 0);
  EXPECT_EQ(layout.n_open(1), 1);
  EXPECT_EQ(layout.parent(0, 0), -1);
  layout.append_raw('d');
  layout.append_gist(0);
  EXPECT_EQ(layout.n_open(1), 2);
  layout.append_gist(1);
  EXPECT_EQ(layout.n_open(1), 0);
  EXPECT_EQ(layout.parent(0, 0), 0);
  layout.append_raw('e');
  EXPECT_EQ(layout.n_open(0), 1);
  EXPECT_EQ(spell(layout), "abc.d.:e");
}

TEST(GistLayout, RawTokensMayHaveAnyId) {
  GistLayout layout({2}, {'.'});
  layout.append_raw(ids_of("a.b"));
  EXPECT_EQ(layout.n_gists(), 0);
  EXPECT_EQ(layout.n_raw(), 3);
}

TEST(GistLayout, RejectsLevelsWithoutTokens) {
  EXPECT_THROW(GistLayout({2, 2}, {7}), Error);
  EXPECT_THROW(GistLayout({2}, {}), Error);
  EXPECT_THROW(GistLayout({}, {7}), Error);
  EXPECT_NO_THROW(GistLayout({2, 2, 2, 2}, {7, 8, 9}));
}

// Every number of the structure against a scan of the levels.
void expect_consistent(const GistLayout& layout) {
  const auto levels = layout.levels();
  std::vector<int64_t> n_before(static_cast<size_t>(layout.n_levels()), 0);
  std::vector<int64_t> first_open(n_before.size(), 0);
  int64_t n_raw = 0;
  for (int64_t t = 0; t < layout.n_tokens(); ++t) {
    const int level = levels[static_cast<size_t>(t)];
    EXPECT_EQ(layout.raw_before(t), n_raw);
    n_raw += level == kRawLevel ? 1 : 0;
    EXPECT_EQ(layout.positions()[static_cast<size_t>(t)], n_raw - 1);
    for (int i = 0; i < layout.n_levels(); ++i) {
      EXPECT_EQ(layout.chunk_of(i, t), n_before[static_cast<size_t>(i)]);
    }
    if (level != kRawLevel) {
      const auto i = static_cast<size_t>(level);
      const int64_t n_below = level == 0 ? n_raw : n_before[i - 1];
      const Range closed =
          level == 0 ? layout.raw_tokens(n_before[i]) : layout.children(level, n_before[i]);
      EXPECT_EQ(closed, (Range{first_open[i], n_below}));
      for (int64_t child = closed.begin; level > 0 && child < closed.end; ++child) {
        EXPECT_EQ(layout.parent(level - 1, child), n_before[i]);
      }
      first_open[i] = n_below;
      EXPECT_EQ(layout.gists(level)[static_cast<size_t>(n_before[i]++)], t);
    }
  }
  EXPECT_EQ(layout.n_raw(), n_raw);
  EXPECT_EQ(layout.raw_before(layout.n_tokens()), n_raw);
}

// Chunks of level 0 hold raw tokens only; those of level i begin at a gist of level i - 1.
void expect_chunks_of_the_level_below(const GistLayout& layout) {
  for (const GistChunk& chunk : list_chunks(layout)) {
    const auto span = layout.levels().subspan(static_cast<size_t>(chunk.range.begin),
                                              static_cast<size_t>(chunk.range.size()));
    ASSERT_FALSE(span.empty());
    EXPECT_EQ(span.front(), chunk.level - 1);
    EXPECT_EQ(span.back(), chunk.level - 1);
    EXPECT_TRUE(std::ranges::all_of(span, [&](int8_t level) { return level < chunk.level; }));
  }
}

TEST(GistLayout, AgreesWithAScan) {
  std::mt19937 random(2);
  for (int i = 0; i < 300; ++i) {
    const GistLayout layout = random_layout(random);
    expect_consistent(layout);
    expect_chunks_of_the_level_below(layout);
    ASSERT_FALSE(testing::Test::HasFailure()) << "case " << i << ": " << spell(layout);
  }
}

}  // namespace
}  // namespace ssa
