#include "gist/mask.h"

#include <gtest/gtest.h>

#include "gist/spelled_layout.h"

namespace ssa {
namespace {

using Picture = std::vector<std::string>;

Picture draw(const GistLayout& layout, const MaskRule& rule) {
  Picture rows;
  for (int64_t q = 0; q < layout.n_tokens(); ++q) {
    std::string& row = rows.emplace_back();
    for (int64_t k = 0; k <= q; ++k) {
      row += may_attend(layout, rule, q, k) ? 'x' : '.';
    }
  }
  return rows;
}

TEST(Mask, IsAsDrawnInTheHeader) {
  EXPECT_EQ(draw(read_layout("abc.de.:f.:|hi", {2, 2}), {.sink = 1}),
            (Picture{"x",
                     "xx",
                     "xxx",
                     "xxxx",
                     "xxxxx",
                     "xxxxxx",
                     "xxxxxxx",
                     "x..x..xx",
                     "x..xxxxxx",
                     "x..xxxxxxx",
                     "x..x..xx.xx",
                     "x......xxxxx",
                     "x......xxxxxx"}));
}

TEST(Mask, OneLevel) {
  //                                          a  b  .  c  d  .  e  .  | f  g
  EXPECT_EQ(draw(read_layout("ab.cd.e.|fg", {2}), {.sink = 1}),
            (Picture{"x",
                     "xx",
                     "xxx",
                     "xxxx",
                     "xxxxx",
                     "xxxxxx",
                     "x.xxxxx",
                     "x.xxxxxx",
                     "x.x..xxxx",
                     "x.x..xxxxx"}));
}

TEST(Mask, NoPreviousChunks) {
  EXPECT_EQ(draw(read_layout("ab.c.:d.|e", {2, 2}), {.sink = 0, .previous_chunks = 0}),
            (Picture{"x",
                     "xx",
                     "xxx",
                     "..xx",
                     "..xxx",
                     "..x.xx",   // the meta gist: its children, not their tokens
                     ".....xx",  // gists of the closed group are hidden behind it
                     ".....xxx",
                     ".....x.xx"}));
}

TEST(Mask, ThreeLevelsInShortPieces) {
  // With one chunk a piece the window shows level-1 gists (index 2 to query 8) that no rule on
  // gists would.
  EXPECT_EQ(draw(read_layout("a.:*b.:*c.:*|d", {1, 1, 1}), {.sink = 0}),
            (Picture{"x",
                     "xx",
                     ".xx",
                     "..xx",
                     "xxxxx",
                     "xxxxxx",
                     ".xxx.xx",
                     "..xx..xx",
                     "..xxxxxxx",
                     "..xxxxxxxx",
                     "...x.xxx.xx",
                     "...x..xx..xx",
                     "...x..xxxxxxx"}));
}

TEST(Mask, SinksAreIndices) {
  const GistLayout layout = read_layout("a.b.c.d.e.|f", {1});
  EXPECT_EQ(draw(layout, {.sink = 3}).back(), "xxxx.x.xxxx") << "a, its gist and b";
  EXPECT_EQ(draw(layout, {.sink = 100}).back(), "xxxxxxxxxxx");
  EXPECT_EQ(sink_end(layout, {.sink = 100}), layout.n_tokens());
}

TEST(Mask, MetaGistsSeeSinks) {
  EXPECT_EQ(draw(read_layout("abc.:", {2, 2}), {.sink = 1}).back(), "x..xx");
}

TEST(Mask, NegativeSinkIsTheInstruction) {
  const MaskRule rule = {.sink = -1};
  const GistLayout laid =
      lay_prefix(ids_of("instabcdef"), spelled_settings({2}, -1), {.n_uncounted = 4});
  EXPECT_EQ(spell(laid), "instab.cd.ef.");
  EXPECT_EQ(sink_end(laid, rule), 4);
  EXPECT_EQ(draw(laid, rule).back(), "xxxx..xxxxxxx");
  EXPECT_EQ(sink_end(read_layout("a.bc.", {2}), rule), 0) << "the first chunk is shorter than c0";
  EXPECT_EQ(sink_end(read_layout("|abc", {2}), rule), 0) << "no gist";
}

TEST(Mask, WithoutGistsItIsCausal) {
  for (const int64_t sink : {-1, 0, 3}) {
    EXPECT_EQ(draw(read_layout("|abcd", {2, 2}), {.sink = sink, .previous_chunks = 0}),
              (Picture{"x", "xx", "xxx", "xxxx"}));
  }
}

TEST(Mask, LevelsAboveThosePresentChangeNothing) {
  const MaskRule rule = {.sink = 1};
  EXPECT_EQ(draw(read_layout("ab.cd.:ef.|g", {2, 2, 2}), rule),
            draw(read_layout("ab.cd.:ef.|g", {2, 2}), rule));
  EXPECT_EQ(draw(read_layout("ab.cd.ef.|g", {2, 2}), rule),
            draw(read_layout("ab.cd.ef.|g", {2}), rule));
}

TEST(Mask, EmptySequence) {
  EXPECT_TRUE(dense_mask(GistLayout({2}, {'.'}), {}).empty());
}

// Index of each ordinal, bank by bank; raw tokens are the last bank.
std::vector<std::vector<int64_t>> bank_indices(const GistLayout& layout) {
  std::vector<std::vector<int64_t>> banks(kMaxGistLevels + 1);
  for (int64_t t = 0; t < layout.n_tokens(); ++t) {
    const int level = layout.levels()[static_cast<size_t>(t)];
    banks[level == kRawLevel ? kMaxGistLevels : static_cast<size_t>(level)].push_back(t);
  }
  return banks;
}

// Marks each index once; a second mark would show as 2.
void mark(std::string& row, Range range, const std::vector<int64_t>* indices = nullptr) {
  for (int64_t i = range.begin; i < range.end; ++i) {
    char& cell =
        row[static_cast<size_t>(indices == nullptr ? i : (*indices)[static_cast<size_t>(i)])];
    cell = cell == '.' ? 'x' : '2';
  }
}

std::string draw_banks(const GistLayout& layout, const VisibleSet& visible, int64_t q) {
  const auto banks = bank_indices(layout);
  std::string row(static_cast<size_t>(q + 1), '.');
  const auto mark_bank = [&](const BankRanges& ranges, const std::vector<int64_t>& indices) {
    mark(row, ranges.sinks, &indices);
    mark(row, ranges.rest, &indices);
  };
  mark_bank(visible.raw, banks.back());
  for (size_t level = 0; level < kMaxGistLevels; ++level) {
    mark_bank(visible.gists[level], banks[level]);
  }
  return row;
}

std::string draw_ranges(const std::vector<Range>& ranges, int64_t q) {
  std::string row(static_cast<size_t>(q + 1), '.');
  int64_t previous_end = -1;
  for (const Range& range : ranges) {
    EXPECT_LT(previous_end, range.begin) << "sorted, and not touching";
    EXPECT_LT(range.begin, range.end);
    previous_end = range.end;
    mark(row, range);
  }
  return row;
}

void expect_agreement(const GistLayout& layout, const MaskRule& rule) {
  const Picture expected = draw(layout, rule);
  const std::vector<uint8_t> dense = dense_mask(layout, rule);
  const int64_t n = layout.n_tokens();
  for (int64_t q = 0; q < n; ++q) {
    const std::string& row = expected[static_cast<size_t>(q)];
    EXPECT_EQ(draw_banks(layout, visible_set(layout, rule, q), q), row) << "query " << q;
    EXPECT_EQ(draw_ranges(visible_ranges(layout, rule, q), q), row) << "query " << q;
    for (int64_t k = 0; k < n; ++k) {
      const bool visible = k <= q && row[static_cast<size_t>(k)] == 'x';
      ASSERT_EQ(dense[static_cast<size_t>(q * n + k)], visible ? 1 : 0) << q << ", " << k;
    }
  }
}

TEST(Mask, PredicateDenseMaskAndStructureAgree) {
  std::mt19937 random(3);
  for (int i = 0; i < 1000; ++i) {
    const GistLayout layout = random_layout(random);
    const MaskRule rule = {.sink = static_cast<int64_t>(random() % 8) - 2,
                           .previous_chunks = static_cast<int64_t>(random() % 4)};
    expect_agreement(layout, rule);
    ASSERT_FALSE(HasFailure()) << "case " << i << ", sink " << rule.sink << ", previous chunks "
                               << rule.previous_chunks << ": " << spell(layout);
  }
}

// The specification's two lists word for word, counting by scanning: slow, and without the
// structure's help.
class ScannedRule {
 public:
  ScannedRule(const GistLayout& layout, const MaskRule& rule)
      : levels_(layout.levels()), rule_(rule) {
    top_ = layout.n_levels() - 1;
    n_sinks_ = sink_end(layout, rule);
  }

  bool operator()(int64_t q, int64_t k) const {
    const int apart = chunk(0, q) - chunk(0, k);
    if (k > q) {
      return false;
    }
    const bool near = 0 <= apart && apart <= rule_.previous_chunks;
    if (k < n_sinks_ || (top_ == 0 && (near || level(k) == 0))) {
      return true;
    }
    return top_ > 0 && (by_meta_gists(q, k) || (level(q) < 1 && near));
  }

 private:
  int level(int64_t t) const { return levels_[static_cast<size_t>(t)]; }

  int chunk(int i, int64_t t) const {
    int n = 0;
    for (int64_t s = 0; s < t; ++s) {
      n += level(s) == i ? 1 : 0;
    }
    return n;
  }

  bool higher_gist(int i, int64_t k, int64_t q) const {
    for (int64_t s = k + 1; s <= q; ++s) {
      if (level(s) > i) {
        return true;
      }
    }
    return false;
  }

  bool by_meta_gists(int64_t q, int64_t k) const {
    const int i = level(k);
    if (i == top_ || (i >= 0 && !higher_gist(i, k, q))) {
      return true;
    }
    for (int closer = 1; closer <= top_; ++closer) {
      const int apart = chunk(closer, q) - chunk(closer, k);
      const bool is_child_level = i == closer - 1;
      if (is_child_level && level(q) == closer && apart == 0) {
        return true;
      }
      if (is_child_level && level(q) <= closer && 1 <= apart && apart <= rule_.previous_chunks) {
        return true;
      }
    }
    return false;
  }

  std::span<const int8_t> levels_;
  MaskRule rule_;
  int top_;
  int64_t n_sinks_;
};

TEST(Mask, PredicateIsTheSpecificationScanned) {
  std::mt19937 random(4);
  for (int i = 0; i < 100; ++i) {
    const GistLayout layout = random_layout(random);
    const MaskRule rule = {.sink = static_cast<int64_t>(random() % 6) - 1,
                           .previous_chunks = static_cast<int64_t>(random() % 3)};
    const ScannedRule scanned(layout, rule);
    for (int64_t q = 0; q < layout.n_tokens(); ++q) {
      for (int64_t k = 0; k < layout.n_tokens(); ++k) {
        ASSERT_EQ(may_attend(layout, rule, q, k), scanned(q, k))
            << spell(layout) << " " << q << " " << k;
      }
    }
  }
}

// A prefix of any length has the same visible sets as the same tokens of a longer sequence: what a
// query sees does not depend on what follows (but for a negative sink, whose first gist may
// follow).
TEST(Mask, DoesNotDependOnWhatFollows) {
  std::mt19937 random(5);
  const GistLayout whole = random_layout(random);
  GistLayout grown(whole.chunk_sizes(), {'.', ':', '*'});
  for (int64_t t = 0; t < whole.n_tokens(); ++t) {
    const int level = whole.levels()[static_cast<size_t>(t)];
    if (level == kRawLevel) {
      grown.append_raw(whole.ids()[static_cast<size_t>(t)]);
    } else {
      grown.append_gist(level);
    }
    ASSERT_EQ(visible_ranges(grown, {}, t), visible_ranges(whole, {}, t)) << t;
  }
}

}  // namespace
}  // namespace ssa
