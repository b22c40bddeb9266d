#include "data/training_data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "data/dataset_fixtures.h"

namespace ssa {
namespace {

/// n letters that differ from one document to the next.
std::string letters(char first, size_t n) {
  std::string text;
  for (size_t i = 0; i < n; ++i) {
    text += static_cast<char>('a' + (static_cast<size_t>(first - 'a') + i * 7) % 26);
  }
  return text;
}

/// A row's raw tokens, sequence by sequence.
std::vector<std::string> raw_texts(const TrainingRow& row) {
  std::vector<std::string> texts;
  for (const std::string& laid : spell_row(row)) {
    std::string raw = laid;
    std::erase_if(raw, [](char c) { return c == '.' || c == ':' || c == '*'; });
    texts.push_back(raw);
  }
  return texts;
}

bool same_rows(const TrainingRow& a, const TrainingRow& b) {
  const auto same = [](const TrainingSequence& x, const TrainingSequence& y) {
    return x.targets == y.targets && spell(x.layout) == spell(y.layout) &&
           x.layout.chunk_sizes() == y.layout.chunk_sizes();
  };
  return std::equal(
      a.sequences.begin(), a.sequences.end(), b.sequences.begin(), b.sequences.end(), same);
}

class TrainingDataTest : public ::testing::Test {
 protected:
  TrainingDataTest() {
    for (size_t i = 0; i < 30; ++i) {
      documents_.push_back(letters(static_cast<char>('a' + i % 26), 3 + i * 5 % 41));
    }
  }
  TrainingData open(const DataOptions& options) { return {options, letters_vocabulary()}; }
  DataOptions text_options() {
    return letters_options(write_documents(folder_ / "text", documents_));
  }

  TestFolder folder_;
  std::vector<std::string> documents_;
};

TEST_F(TrainingDataTest, RowsAreFunctionsOfSeedAndNumber) {
  DataOptions options = text_options();
  options.chunks = {{{2}, 1}, {{3}, 1}, {{2, 2}, 1}};
  options.suffix_max = 6;
  const TrainingData data = open(options), again = open(options);
  std::vector<TrainingRow> backwards(40), threaded(40);
  for (uint64_t i = 40; i-- > 0;) {
    backwards[i] = again.row(i * 1000);
  }
  {
    std::vector<std::jthread> threads;
    for (uint64_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (uint64_t i = t; i < 40; i += 4) {
          threaded[i] = data.row(i * 1000);
        }
      });
    }
  }
  for (uint64_t i = 0; i < 40; ++i) {
    const TrainingRow row = data.row(i * 1000);
    EXPECT_TRUE(same_rows(row, backwards[i])) << i;
    EXPECT_TRUE(same_rows(row, threaded[i])) << i;
  }
}

TEST_F(TrainingDataTest, SeedsAndPassesGiveOtherOrders) {
  DataOptions options = text_options();
  const TrainingData data = open(options);
  options.seed = 1;
  const TrainingData other = open(options);
  const uint64_t n_rows = data.rows_per_epoch();
  std::vector<std::vector<std::string>> first, second, seeded;
  for (uint64_t i = 0; i < n_rows; ++i) {
    first.push_back(raw_texts(data.row(i)));
    second.push_back(raw_texts(data.row(n_rows + i)));
    seeded.push_back(raw_texts(other.row(i)));
  }
  EXPECT_NE(first, second);
  EXPECT_NE(first, seeded);
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  EXPECT_EQ(first, second) << "a pass sees every row once";
}

/// Every token of the dataset is in exactly one sequence of a pass.
TEST_F(TrainingDataTest, APassSeesEveryTokenOnce) {
  for (const Boundaries boundaries : {Boundaries::kSeparate, Boundaries::kJoin}) {
    std::filesystem::remove_all(folder_ / "text");
    DataOptions options = text_options();
    options.boundaries = boundaries;
    options.add_eos = true;
    const TrainingData data = open(options);
    std::map<char, int> counts, expected;
    for (uint64_t i = 0; i < data.rows_per_epoch(); ++i) {
      const TrainingRow row = data.row(i);
      EXPECT_LE(row.n_raw(), options.seq_len);
      for (const std::string& text : raw_texts(row)) {
        for (const char letter : text) {
          ++counts[letter];
        }
      }
    }
    for (const std::string& document : documents_) {
      ++expected[static_cast<char>(kEos)];
      for (const char letter : document) {
        ++expected[letter];
      }
    }
    EXPECT_EQ(counts, expected);
  }
}

TEST_F(TrainingDataTest, LongDocumentsAreCutFromTheirStart) {
  DataOptions options = letters_options(
      write_documents(folder_ / "set", {"abcdefghijklmnopqrstuvwxyzabcdefghijklmnop"}));  // 42
  const TrainingData data = open(options);
  ASSERT_EQ(data.rows_per_epoch(), 3U);
  std::set<std::string> texts;
  for (uint64_t i = 0; i < 3; ++i) {
    texts.insert(raw_texts(data.row(i)).at(0));
  }
  EXPECT_EQ(texts, (std::set<std::string>{"abcdefghijklmnop", "qrstuvwxyzabcdef", "ghijklmnop"}));
}

TEST_F(TrainingDataTest, SeparateDocumentsHaveTheirOwnPrefixAndSuffix) {
  DataOptions options =
      letters_options(write_documents(folder_ / "set", {"abcdefg", "hijkl", "mno"}));
  const TrainingData data = open(options);
  ASSERT_EQ(data.rows_per_epoch(), 1U);
  std::vector<std::string> texts = spell_row(data.row(0));
  std::sort(texts.begin(), texts.end());
  EXPECT_EQ(texts, (std::vector<std::string>{"ab.cd.efg", "hi.jkl", "mno"}))
      << "a document too short for a chunk and a suffix stays raw";
}

TEST_F(TrainingDataTest, JoinedDocumentsAreOneSequence) {
  DataOptions options = letters_options(write_documents(folder_ / "set", {"abcd", "efgh"}));
  options.boundaries = Boundaries::kJoin;
  options.add_eos = options.add_bos = true;
  const TrainingRow row = open(options).row(0);
  ASSERT_EQ(row.sequences.size(), 1U);
  const std::string text = raw_texts(row)[0];
  EXPECT_TRUE(text == "^abcd$efgh$" || text == "^efgh$abcd$") << text;
  EXPECT_EQ(row.sequences[0].layout.n_gists(0), 4);  // of 11 tokens 3 are suffix
  EXPECT_EQ(std::count(row.sequences[0].targets.begin(), row.sequences[0].targets.end(), kNoTarget),
            5);  // in front of each gist, and the last token
}

TEST_F(TrainingDataTest, StoredEosIsNotDoubled) {
  DatasetMeta meta = letters_meta();
  meta.eos_id = kEos;
  DataOptions options = letters_options(write_documents(folder_ / "set", {"abcd$"}, meta));
  options.add_eos = true;
  EXPECT_EQ(raw_texts(open(options).row(0)).at(0), "abcd$");
}

TEST_F(TrainingDataTest, BosStartsEverySequenceAndCountsAsRaw) {
  DataOptions options = text_options();
  options.add_bos = true;
  options.sink = 1;
  const TrainingData data = open(options);
  for (uint64_t i = 0; i < data.rows_per_epoch(); ++i) {
    const TrainingRow row = data.row(i);
    EXPECT_LE(row.n_raw(), 16);
    for (const std::string& text : raw_texts(row)) {
      EXPECT_EQ(text[0], '^');
      EXPECT_EQ(text.find('^', 1), std::string::npos);
      EXPECT_GT(text.size(), 1U);
    }
  }
}

TEST_F(TrainingDataTest, SuffixLengthsAreDrawnFromTheirRange) {
  DataOptions options = letters_options(write_documents(folder_ / "set", {letters('c', 160)}));
  options.suffix_min = 2;
  options.suffix_max = 5;
  const TrainingData data = open(options);
  std::map<int64_t, int> counts;
  for (uint64_t i = 0; i < 400; ++i) {
    const TrainingRow row = data.row(i);
    const GistLayout& layout = row.sequences.at(0).layout;
    ++counts[layout.n_tokens() - layout.prefix_end()];
  }
  ASSERT_EQ(counts.size(), 4U);
  for (const auto& [length, count] : counts) {
    EXPECT_TRUE(2 <= length && length <= 5) << length;
    EXPECT_NEAR(count, 100, 40) << length;
  }
}

TEST_F(TrainingDataTest, ChunkSettingsAreDrawnByWeight) {
  DataOptions options = text_options();
  options.chunks = {{{2}, 3}, {{4, 2}, 1}};
  const TrainingData data = open(options);
  int n_two_levels = 0;
  for (uint64_t i = 0; i < 800; ++i) {
    n_two_levels += data.row(i).sequences.at(0).layout.n_levels() == 2;
  }
  EXPECT_NEAR(n_two_levels, 200, 50);
}

TEST_F(TrainingDataTest, SourcesTakeTurnsByWeight) {
  DataOptions options = letters_options(write_documents(folder_ / "a", {std::string(64, 'a')}));
  options.sources[0].weight = 3;
  options.sources.push_back({write_documents(folder_ / "b", {std::string(32, 'b')}), 1});
  const TrainingData data = open(options);
  int n_b = 0;
  for (uint64_t i = 0; i < 1024; ++i) {
    n_b += raw_texts(data.row(i))[0][0] == 'b';
  }
  EXPECT_EQ(n_b, 256);
  EXPECT_EQ(data.rows_per_epoch(), 6U);
  EXPECT_DOUBLE_EQ(data.passes(0, 1024), 768 / 4.0);
  EXPECT_DOUBLE_EQ(data.passes(1, 2048), 512 / 2.0);
  EXPECT_DOUBLE_EQ(data.sources()[1].share, 0.25);
}

TEST_F(TrainingDataTest, WithoutGistsTheSameTokensAndTargets) {
  DataOptions options = text_options();
  options.suffix_max = 5;
  for (const LossOn loss_on : {LossOn::kAll, LossOn::kSuffix}) {
    options.loss_on = loss_on;
    options.gists = true;
    const TrainingData gisted = open(options);
    options.gists = false;
    const TrainingData raw = TrainingData(options, {"letters", {}, {}, {}, {}});
    const auto targets_of = [](const TrainingSequence& sequence) {
      std::string text = spell_targets(sequence);
      std::erase(text, '_');
      return text;
    };
    for (uint64_t i = 0; i < gisted.rows_per_epoch(); ++i) {
      const TrainingRow with = gisted.row(i), without = raw.row(i);
      ASSERT_EQ(raw_texts(with), spell_row(without));
      for (size_t s = 0; s < with.sequences.size(); ++s) {
        EXPECT_EQ(targets_of(with.sequences[s]), targets_of(without.sequences[s]));
      }
    }
  }
}

TEST_F(TrainingDataTest, SuffixLossCountsTheSuffixAlone) {
  DataOptions options = letters_options(write_documents(folder_ / "set", {"abcdefghij"}));
  options.loss_on = LossOn::kSuffix;
  const TrainingRow row = open(options).row(0);
  EXPECT_EQ(spell_row(row).at(0), "ab.cd.ef.g.hij");
  EXPECT_EQ(spell_targets(row.sequences[0]), "__________hij_");
}

TEST_F(TrainingDataTest, QaRows) {
  const auto path = write_qa(folder_ / "qa", {letters_qa({"abc", "def"}, "qr", "s")}, "H");
  struct Case {
    LossOn loss_on;
    bool bos;
    const char* laid;
    const char* targets;
  };
  const Case cases[] = {
      {LossOn::kAll, false, "H.ab.c.de.f.qrs$", "_ab_c_de_f_qrs$_"},
      {LossOn::kSuffix, false, "H.ab.c.de.f.qrs$", "___________qrs$_"},
      {LossOn::kAnswer, false, "H.ab.c.de.f.qrs$", "_____________s$_"},
      {LossOn::kAnswer, true, "^H.ab.c.de.f.qrs$", "______________s$_"},
  };
  for (const Case& c : cases) {
    DataOptions options = letters_options(path);
    options.loss_on = c.loss_on;
    options.add_bos = c.bos;
    options.add_eos = true;
    const TrainingRow row = open(options).row(0);
    EXPECT_EQ(spell_row(row), std::vector<std::string>{c.laid});
    EXPECT_EQ(spell_targets(row.sequences.at(0)), c.targets) << c.laid;
  }
}

TEST_F(TrainingDataTest, QaBareBosJoinsTheFirstDocument) {
  DataOptions options = letters_options(write_qa(folder_ / "qa", {letters_qa({"abc"}, "q", "a")}));
  options.add_bos = true;
  options.sink = 1;
  EXPECT_EQ(spell_row(open(options).row(0)).at(0), "^ab.c.qa");
}

TEST_F(TrainingDataTest, QaRowsArePackedWholeAndReportWhatTheyLose) {
  const std::string five(5, 'd');
  DataOptions options = letters_options(
      write_qa(folder_ / "qa",
               {letters_qa({five, five, five}, "q", "a"),                   // 17: loses one
                letters_qa({five, five, "g" + five}, "q", "b", {0, 0, 1}),  // 18: keeps gold
                letters_qa({"x"}, std::string(16, 'q'), "c"),               // does not fit
                letters_qa({"x"}, "q", "e"),
                letters_qa({"x"}, "q", "f")}));
  const TrainingData data = open(options);
  std::multiset<std::string> sequences;
  for (uint64_t i = 0; i < data.rows_per_epoch(); ++i) {
    const TrainingRow row = data.row(i);
    EXPECT_LE(row.n_raw(), 16);
    for (const std::string& text : raw_texts(row)) {
      sequences.insert(text);
    }
  }
  EXPECT_EQ(
      sequences,
      (std::multiset<std::string>{five + five + "qa", five + "g" + five + "qb", "xqe", "xqf"}));
  EXPECT_LT(data.rows_per_epoch(), 4U) << "nothing was packed";
  const SourceSummary& summary = data.sources()[0];
  EXPECT_EQ(summary.n_qa_rows_cut, 2U);
  EXPECT_EQ(summary.n_documents_lost, 2U);
  EXPECT_EQ(summary.n_qa_rows_left_out, 1U);
  EXPECT_EQ(data.warnings().size(), 2U);
}

TEST_F(TrainingDataTest, WordAwareChunksEndBetweenWords) {
  DataOptions options = letters_options(write_documents(folder_ / "set", {"AbcDefGhiJklMno"}));
  options.word_aware = true;
  EXPECT_EQ(spell_row(open(options).row(0)).at(0), "Abc.Def.Ghi.Jk.l.Mno")
      << "but near the end of the prefix, as published checkpoints do";
}

TEST_F(TrainingDataTest, ErrorsSayWhatDoesNotFit) {
  const DataOptions good = text_options();
  struct Case {
    std::function<void(DataOptions&, DataVocabulary&)> spoil;
    const char* error;
  };
  const Case cases[] = {
      {[](auto& o, auto&) { o.sources.clear(); }, "no datasets"},
      {[](auto& o, auto&) { o.sources[0].path = "/nowhere"; }, "/nowhere does not exist"},
      {[](auto& o, auto&) { o.sources[0].weight = 0; }, "weight 0 is not positive"},
      {[](auto& o, auto&) { o.sources[0].weight = NAN; }, "is not positive"},
      {[](auto& o, auto&) { o.seq_len = 4; }, "seq_len 4 is too short"},
      {[](auto& o, auto&) { o.seq_len = -1; }, "seq_len -1 is too short"},
      {[](auto& o, auto&) { o.chunks = {{{16}}}; }, "seq_len 16 is too short"},
      {[](auto& o, auto&) { o.chunks.clear(); }, "no chunk settings"},
      {[](auto& o, auto&) { o.chunks[0].weight = -1; }, "weight -1 is not positive"},
      {[](auto& o, auto&) { o.chunks = {{{0}}}; }, "chunk setting"},
      {[](auto& o, auto&) { o.suffix_min = 0; }, "suffix length from 0"},
      {[](auto& o, auto&) { o.suffix_max = 2; }, "suffix length from 3 to 2"},
      {[](auto& o, auto&) { o.sink = -1; }, "sink -1"},
      {[](auto&, auto& v) { v.tokenizer = "other"; }, "made with another tokenizer: letters"},
      {[](auto& o, auto& v) { o.add_bos = true, v.bos_id.reset(); }, "names no BOS"},
      {[](auto& o, auto& v) { o.add_eos = true, v.eos_id.reset(); }, "set add_eos = false"},
      {[](auto& o, auto&) { o.boundaries = Boundaries::kJoin; }, "need add_eos = true"},
      {[](auto& o, auto& v) {
         o.chunks = {{{2, 2}}}, v.gist_ids = {1};
       },
       "needs 2 gist tokens"},
      {[](auto& o, auto& v) { o.word_aware = true, v.boundaries.clear(); }, "word boundaries"},
  };
  for (const Case& c : cases) {
    DataOptions options = good;
    DataVocabulary vocabulary = letters_vocabulary();
    c.spoil(options, vocabulary);
    expect_error([&] { TrainingData(options, vocabulary); }, c.error);
  }
  expect_error([] { parse_loss_on("some"); }, "'some' is not one of all, suffix, answer");
  expect_error([] { parse_boundaries("none"); }, "'none' is not one of separate, join");
}

TEST_F(TrainingDataTest, QaThatFitsNowhereIsAnError) {
  const auto path = write_qa(folder_ / "qa", {letters_qa({"abc"}, std::string(20, 'q'), "a")});
  expect_error([&] { open(letters_options(path)); }, "no row fits seq_len 16");
}

}  // namespace
}  // namespace ssa
