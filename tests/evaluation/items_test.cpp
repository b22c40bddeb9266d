// What stands in front of the model: items, methods, results.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <sstream>

#include "base/file.h"
#include "evaluation/eval_item.h"
#include "evaluation/eval_method.h"
#include "evaluation/eval_prompt.h"
#include "evaluation/eval_results.h"
#include "evaluation/needle_items.h"
#include "support/expect_error.h"

namespace ssa {
namespace {

TEST(EvalMethods, AreParsed) {
  struct Case {
    const char* text;
    PrefillKind prefill;
    KeyRule rule;
    Pivot pivot;
    std::optional<double> ratio;
    ChunkSizes chunk;
  };
  const Case cases[] = {
      {"full", PrefillKind::kFull, KeyRule::kAll, Pivot::kGist, {}, {8}},
      {"alone", PrefillKind::kNone, KeyRule::kAll, Pivot::kGist, {}, {8}},
      {"gists@16", PrefillKind::kGist, KeyRule::kGists, Pivot::kGist, {}, {16}},
      {"ssa", PrefillKind::kGist, KeyRule::kPivots, Pivot::kGist, 8.0, {8}},
      {"ssa@4-4", PrefillKind::kGist, KeyRule::kPivots, Pivot::kGist, 16.0, {4, 4}},
      {"ssa:32", PrefillKind::kGist, KeyRule::kPivots, Pivot::kGist, 32.0, {8}},
      {"ssa:mean:8", PrefillKind::kGist, KeyRule::kPivots, Pivot::kMean, 8.0, {8}},
      {"ssa:quest", PrefillKind::kGist, KeyRule::kPivots, Pivot::kQuest, 8.0, {8}},
      {"random:16", PrefillKind::kFull, KeyRule::kPivots, Pivot::kRandom, 16.0, {8}},
      {"streaming:8", PrefillKind::kFull, KeyRule::kWindow, Pivot::kGist, 8.0, {8}},
      {"h2o:2.5", PrefillKind::kFull, KeyRule::kHeavy, Pivot::kGist, 2.5, {8}},
  };
  for (const Case& one : cases) {
    const EvalMethod method = parse_method(one.text, {{8}, true});
    EXPECT_EQ(method.prefill, one.prefill) << one.text;
    EXPECT_EQ(method.rule, one.rule) << one.text;
    EXPECT_EQ(method.pivot, one.pivot) << one.text;
    EXPECT_EQ(method.ratio, one.ratio) << one.text;
    EXPECT_EQ(method.chunk, one.chunk) << one.text;
  }
}

TEST(EvalMethods, BlocksStartFromTheDefaults) {
  const MethodDefaults defaults{{8}, false, {.block_size = 16, .n_blocks = 12}};
  const std::tuple<const char*, int64_t, int64_t> cases[] = {
      {"sparse", 12, 16}, {"sparse:4", 4, 16}, {"sparse@32", 12, 32}, {"sparse:4@8", 4, 8}};
  for (const auto& [text, n_blocks, block_size] : cases) {
    const EvalMethod method = parse_method(text, defaults);
    EXPECT_EQ(method.prefill, PrefillKind::kSparse) << text;
    EXPECT_EQ(method.blocks.n_blocks, n_blocks) << text;
    EXPECT_EQ(method.blocks.block_size, block_size) << text;
  }
}

TEST(EvalMethods, SayWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"streming:8", "did you mean streaming?"},
      {"xyzzy", "known are full, alone"},
      {"full:8", "nothing is chosen"},
      {"h2o:mean:8", "'mean' is not a ratio"},
      {"ssa:foo", "neither a pivot"},
      {"ssa:0", "neither a pivot"},
      {"ssa:8:8", "neither a pivot"},
      {"ssa@x", "x"},
      {"sprse:8", "did you mean sparse?"},
      {"sparse:x", "'x' is no number of blocks"},
      {"sparse:0", "number of blocks 0"},
      {"sparse:8@", "'' is no block size"},
      {"sparse:8:8", "one part too many"},
  };
  for (const auto& [text, part] : cases) {
    expect_error([&, t = text] { parse_method(t, {{8}, true}); }, part);
  }
  expect_error([] { parse_method("ssa:8", {{8}, false}); }, "ssa gistify");
  const std::vector<std::string> twice = {"full", "full"};
  expect_error([&] { parse_methods(twice, {{8}, true}); }, "named twice");
}

class ItemFile : public ::testing::Test {
 protected:
  ItemFile()
      : path_(std::filesystem::temp_directory_path() /
              (std::string("ssa_items_test_") + std::to_string(::getpid()) + ".jsonl")) {}
  ~ItemFile() override { std::filesystem::remove(path_); }

  std::vector<EvalItem> read(EvalTask task, const std::string& text) const {
    write_file(path_, text);
    return read_eval_items(task, path_);
  }

  std::filesystem::path path_;
};

TEST_F(ItemFile, SaysFileAndLine) {
  const std::string good = R"({"context": "c", "question": "q", "answer": "a"})";
  const std::tuple<EvalTask, std::string, const char*> cases[] = {
      {EvalTask::kQa, good + "\n{]", "line 2"},
      {EvalTask::kQa, good + "\n\n[1]", "line 3: expected a JSON object"},
      {EvalTask::kQa, R"({"question": "q", "answers": ["a"]})", "'documents' (or 'context')"},
      {EvalTask::kQa, R"({"documents": [], "question": "q", "answers": ["a"]})", "at least one"},
      {EvalTask::kQa, R"({"context": "c", "question": 1, "answer": "a"})", "'question': expected"},
      {EvalTask::kQa, R"({"context": "c", "question": "q", "answers": [""]})", "not empty"},
      {EvalTask::kNiah,
       R"({"context": "c", "question": "q", "answer": "a", "gold": [1]})",
       "one of the 1 documents"},
      {EvalTask::kNiah,
       R"({"context": "c", "question": "q", "answer": "a", "gold": [[0, 3, 2]]})",
       "[document, first, behind]"},
      {EvalTask::kPpl, R"({"prefix": "p"})", "'suffix' is missing"},
      {EvalTask::kPpl,
       R"({"id": 1, "text": "p"})"
       "\n"
       R"({"id": "1", "text": "p"})",
       "id '1' occurs twice"},
      {EvalTask::kPpl, "{\"text\": \"\xff\"}", "not UTF-8"},
      {EvalTask::kPpl, "\n", "no items"},
  };
  for (const auto& [task, text, part] : cases) {
    expect_error([&, t = task, x = text] { read(t, x); }, part);
  }
  EXPECT_EQ(read(EvalTask::kQa, good + "\n" + good)[1].id, "2");
}

/// Spans are counted in characters, and become bytes.
TEST_F(ItemFile, ReadsSpans) {
  const auto items = read(EvalTask::kQa,
                          R"({"documents": ["x", "äöü!"], "question": "q", "answers": ["a"],)"
                          R"( "gold": [0, [1, 1, 3]]})");
  ASSERT_EQ(items[0].gold.size(), 2U);
  EXPECT_LT(items[0].gold[0].bytes.end, 0);
  EXPECT_EQ(items[0].gold[1].bytes, (Range{2, 6}));
}

TEST(EvalPrompts, MarkEvidenceByTokens) {
  const Tokenizer tokenizer =
      Tokenizer::from_file(std::filesystem::path(SSA_GOLDEN_DIR) / "tokenizer" / "smollm2.json");
  EvalItem item;
  item.documents = {"Some filler text.", "The code of Velmora is 51234. More text."};
  item.question = "The code of Velmora is";
  item.answers = {"51234"};
  item.gold = {{1, {23, 28}}};
  const EvalPrompt prompt = make_eval_prompt(item, tokenizer, default_format(EvalTask::kNiah));
  ASSERT_EQ(prompt.evidence.size(), 1U);
  std::vector<int64_t> raw;
  for (const auto& piece : prompt.pieces) {
    raw.insert(raw.end(), piece.begin(), piece.end());
  }
  const Range range = prompt.evidence[0];
  const std::string text = tokenizer.decode(
      std::span(raw).subspan(static_cast<size_t>(range.begin), static_cast<size_t>(range.size())));
  EXPECT_EQ(text.find_first_not_of(' '), text.find("51234"));
  EXPECT_EQ(text.substr(text.find("51234")), "51234");
  EXPECT_EQ(tokenizer.decode(prompt.suffix), "\nThe code of Velmora is");
  EXPECT_EQ(tokenizer.decode(prompt.answer), " 51234");
}

int64_t count_words(const std::string& text) {
  std::istringstream stream(text);
  int64_t n = 0;
  for (std::string word; stream >> word;) {
    ++n;
  }
  return n;
}

std::string filler_text() {
  std::string text;
  for (int i = 0; i < 3000; ++i) {
    text += "Sentence " + std::to_string(i) + " fills. ";
  }
  return text;
}

TEST(NeedleItems, HideWhatIsAskedFor) {
  for (const NeedleKind kind : {NeedleKind::kSingle,
                                NeedleKind::kMultiKey,
                                NeedleKind::kMultiValue,
                                NeedleKind::kKeyValue}) {
    const NeedleMaker maker(
        filler_text(), {.kind = kind, .length = 800, .n_facts = 4, .depth = 0.25}, count_words);
    const Json line = maker.item(3);
    EXPECT_EQ(line, maker.item(3)) << "a function of the number";
    EXPECT_NE(line, maker.item(4));
    const EvalItem item = parse_eval_item(EvalTask::kNiah, line, "item");
    const std::string& text = item.documents[0];
    EXPECT_LE(count_words(text), 800);
    EXPECT_GT(count_words(text), 760);
    ASSERT_EQ(item.gold.size(), kind == NeedleKind::kMultiValue ? 4U : 1U)
        << dump_json(line["evidence"]) << line["depth"] << line["question"];
    std::string answer;
    for (const EvidenceSpan& span : item.gold) {
      const std::string fact = text.substr(static_cast<size_t>(span.bytes.begin),
                                           static_cast<size_t>(span.bytes.size()));
      const size_t digits = fact.find_last_of("0123456789");
      answer += (answer.empty() ? "" : ", ") + fact.substr(digits - 4, 5);
    }
    EXPECT_EQ(item.answers[0], answer);
    if (kind != NeedleKind::kMultiValue) {
      EXPECT_NEAR(static_cast<double>(item.gold[0].bytes.begin) / static_cast<double>(text.size()),
                  0.25,
                  0.05);
    }
  }
}

/// No name of an evaluation item occurs in a training item, and questions are put otherwise.
TEST(NeedleItems, KeepTrainingApart) {
  std::set<std::string> names[2];
  for (const bool training : {false, true}) {
    const NeedleMaker maker(filler_text(), {.length = 200, .training = training}, count_words);
    for (int64_t i = 0; i < 200; ++i) {
      const auto question = maker.item(i)["question"].get<std::string>();
      std::istringstream stream(question);
      for (std::string word; stream >> word;) {
        if (word[0] >= 'A' && word[0] <= 'Z' && word.size() > 5) {
          std::erase_if(word, [](char c) { return c < 'A' || (c > 'Z' && c < 'a') || c > 'z'; });
          names[training].insert(word);
        }
      }
    }
  }
  EXPECT_GE(names[0].size(), 25U);
  EXPECT_GE(names[1].size(), 80U);
  for (const std::string& name : names[0]) {
    EXPECT_FALSE(names[1].contains(name)) << name;
  }
}

TEST(NeedleItems, SayWhatIsTooShort) {
  expect_error([] { NeedleMaker("", {}, count_words); }, "no sentence");
  expect_error([] { NeedleMaker("One. Two. ", {.length = 100}, count_words).item(0); },
               "too short");
  expect_error([] { NeedleMaker(filler_text(), {.length = 16}, count_words).item(0); },
               "need more than the 16 tokens");
}

Json line_of(const char* method, const char* item, double nll, double gain_nll) {
  return {{"item", item},
          {"method", method},
          {"nll", nll},
          {"n_scored", 10},
          {"gain_nll", gain_nll},
          {"attended", 4.0},
          {"attended_bytes", 8.0},
          {"scanned_bytes", 0.0}};
}

TEST(EvalResults, KeptGainAndDifferences) {
  std::vector<Json> lines;
  for (const char* item : {"a", "b"}) {
    lines.push_back(line_of("alone", item, 4, 4));
    lines.push_back(line_of("full", item, 2, 2));
    lines.push_back(line_of("ssa:8", item, 2.5, 2.5));
  }
  const Json rows = summarize(lines, {.rounds = 100});
  EXPECT_DOUBLE_EQ(rows[0]["kept_gain"]["mean"].get<double>(), 0.0);
  EXPECT_DOUBLE_EQ(rows[1]["kept_gain"]["mean"].get<double>(), 1.0);
  EXPECT_DOUBLE_EQ(rows[2]["kept_gain"]["mean"].get<double>(), 0.75);
  const Json differences = compare(lines, {lines, "full"}, {.rounds = 100});
  EXPECT_DOUBLE_EQ(differences[2]["nll"]["mean"].get<double>(), 0.5);
  EXPECT_DOUBLE_EQ(differences[2]["nll"]["low"].get<double>(), 0.5);
  expect_error([&] { compare(lines, {lines, "h2o:8"}); }, "nothing to compare");
}

}  // namespace
}  // namespace ssa
