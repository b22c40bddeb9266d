#include "data/dataset_builder.h"

#include <gtest/gtest.h>

#include "data/dataset_fixtures.h"
#include "data/token_dataset.h"
#include "tokenizer/tokenizer_fingerprint.h"

namespace ssa {
namespace {

class DatasetBuilderTest : public ::testing::Test {
 protected:
  BuildReport build(BuildOptions options) {
    std::filesystem::remove_all(folder_ / "set");
    return build_dataset(tokenizer_, options, folder_ / "set");
  }
  std::vector<std::string> texts() const {
    const TokenDataset dataset(folder_ / "set");
    std::vector<std::string> texts;
    for (uint64_t i = 0; i < dataset.size(); ++i) {
      texts.push_back(tokenizer_.decode(dataset.tokens(i, 0, dataset.n_tokens(i))));
    }
    return texts;
  }

  Tokenizer tokenizer_ = golden_tokenizer();
  TestFolder folder_;
};

TEST_F(DatasetBuilderTest, TextFiles) {
  using namespace std::string_literals;
  const auto one = folder_.write("one.txt", "One document.\n");
  const auto many = folder_.write("many.txt", "first\0second\0 \n\0third\0"s);
  const BuildReport report = build({.inputs = {one, many}});
  EXPECT_EQ(texts(), (std::vector<std::string>{"One document.\n", "first", "second", "third"}));
  EXPECT_EQ(report.n_blank, 1U);
  EXPECT_EQ(report.meta.sources, (std::vector<std::string>{"one.txt", "many.txt"}));
  EXPECT_EQ(report.meta.tokenizer, tokenizer_fingerprint(tokenizer_));
}

TEST_F(DatasetBuilderTest, SeparatorAndEos) {
  const auto file = folder_.write("a.txt", "one\n---\ntwo\n---\n");
  build({.inputs = {file}, .separator = "\n---\n", .eos_id = 0});
  const std::string eos = tokenizer_.decode(std::vector<int64_t>{0});
  EXPECT_EQ(texts(), (std::vector{"one" + eos, "two" + eos}));
}

TEST_F(DatasetBuilderTest, SpecialTokensInTextAreLetters) {
  const std::string eos = tokenizer_.decode(std::vector<int64_t>{0});
  const auto file = folder_.write("a.txt", eos);
  EXPECT_GT(build({.inputs = {file}}).meta.n_tokens, 1U);
  EXPECT_EQ(texts(), std::vector{eos});
}

TEST_F(DatasetBuilderTest, BrokenTextIsMendedAndCounted) {
  const auto file = folder_.write("a.txt", "ab\xff");
  EXPECT_EQ(build({.inputs = {file}}).n_mended, 1U);
  EXPECT_EQ(texts(), std::vector<std::string>{"ab\xEF\xBF\xBD"});
}

TEST_F(DatasetBuilderTest, JsonLines) {
  const auto file = folder_.write("a.jsonl", "{\"body\": \"x\\ny\"}\n\n{\"body\": \"z\"}");
  build({.inputs = {file}, .field = "body"});
  EXPECT_EQ(texts(), (std::vector<std::string>{"x\ny", "z"}));
}

TEST_F(DatasetBuilderTest, ThreadsDoNotChangeTheOrder) {
  std::string lines;
  for (int i = 0; i < 500; ++i) {
    lines += "{\"text\": \"" + std::string(static_cast<size_t>(i * 13 % 40), 'x') + " document " +
             std::to_string(i) + "\"}\n";
  }
  const auto file = folder_.write("a.jsonl", lines);
  build({.inputs = {file}, .threads = 1});
  const auto expected = texts();
  build({.inputs = {file}, .threads = 4});
  EXPECT_EQ(texts(), expected);
  EXPECT_EQ(expected.size(), 500U);
}

TEST_F(DatasetBuilderTest, QaRows) {
  const auto file = folder_.write(
      "a.jsonl",
      "{\"documents\": [\"one\", \"two\"], \"question\": \"why?\", \"answer\": \"so\", "
      "\"gold\": [1], \"id\": 7}\n"
      "{\"context\": \"three\", \"question\": \"who?\", \"answer\": \"me\"}\n");
  build({.inputs = {file},
         .kind = DatasetKind::kQa,
         .eos_id = 0,
         .format = {.header = "Read:", .document = "[{}]", .question = "{} ->", .answer = " {}!"}});
  const TokenDataset dataset(folder_ / "set");
  const auto text = [&](const std::vector<int64_t>& ids) { return tokenizer_.decode(ids); };
  const QaRow row = dataset.qa_row(0);
  EXPECT_EQ(text(dataset.meta().header), "Read:");
  EXPECT_EQ(text(row.documents[0]) + text(row.documents[1]), "[one][two]");
  EXPECT_EQ(row.gold, (std::vector{false, true}));
  EXPECT_EQ(text(row.question), "why? ->");
  EXPECT_EQ(text(row.answer), " so!" + text({0}));
  EXPECT_EQ(text(dataset.qa_row(1).documents.at(0)), "[three]");
}

TEST_F(DatasetBuilderTest, ErrorsNameFileAndLine) {
  struct Case {
    DatasetKind kind;
    const char* line;
    const char* error;
  };
  const DatasetKind text = DatasetKind::kText, qa = DatasetKind::kQa;
  const Case cases[] = {
      {text, "{\"txt\": \"x\"}", "a.jsonl line 2: field 'text' is missing"},
      {text, "{\"text\": 3}", "a.jsonl line 2: field 'text' is not a string but 3"},
      {text, "[1]", "a.jsonl line 2: expected a JSON object"},
      {text, "{\"text\": ", "a.jsonl line 2: parse error"},
      {text, "{\"text\": \"\xff\"}", "a.jsonl line 2: the text is not UTF-8"},
      {qa, "{\"question\": \"q\", \"answer\": \"a\"}", "field 'documents' is missing"},
      {qa, "{\"documents\": [], \"question\": \"q\", \"answer\": \"a\"}", "at least one text"},
      {qa, "{\"documents\": [1], \"question\": \"q\", \"answer\": \"a\"}", "not a string but 1"},
      {qa, "{\"documents\": [\" \"], \"question\": \"q\", \"answer\": \"a\"}", "is empty"},
      {qa, "{\"context\": \"c\", \"answer\": \"a\"}", "field 'question' is missing"},
      {qa, "{\"context\": \"c\", \"question\": \"q\", \"answer\": \"\"}", "'answer' is empty"},
      {qa, "{\"context\": \"c\", \"question\": \"q\", \"answer\": [\"a\"]}", "not a string"},
      {qa,
       "{\"context\": \"c\", \"question\": \"q\", \"answer\": \"a\", \"gold\": [1]}",
       "'gold' holds 1, and there are 1 documents"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.line);
    const std::string good =
        "{\"text\": \"x\", \"context\": \"c\", \"question\": \"q\", \"answer\": \"a\"}\n";
    const auto file = folder_.write("a.jsonl", good + c.line + "\n" + good);
    expect_error([&] { build({.inputs = {file}, .kind = c.kind}); }, c.error);
    expect_error([&] { build({.inputs = {file}, .kind = c.kind}); }, "a.jsonl line 2");
    EXPECT_FALSE(is_present(folder_ / "set"));
  }
}

TEST_F(DatasetBuilderTest, RefusesInputsThatGiveNothing) {
  expect_error([&] { build({}); }, "no input files");
  const auto blank = folder_.write("blank.txt", " \n");
  expect_error([&] { build({.inputs = {blank}}); }, "no text");
  const auto empty = folder_.write("empty.jsonl", "");
  expect_error([&] { build({.inputs = {empty}}); }, "no text");
  expect_error([&] { build({.inputs = {blank}, .kind = DatasetKind::kQa}); }, ".jsonl");
  expect_error([&] { build({.inputs = {blank}, .separator = ""}); }, "separator");
  expect_error([&] { build({.inputs = {folder_ / "gone.txt"}}); }, "gone.txt");
  expect_error([&] { build({.inputs = {folder_ / "a.json"}}); }, "not .json");
  expect_error([&] { build({.inputs = {blank}, .format = {.question = "Q"}}); }, "exactly once");
}

TEST(TokenizerFingerprint, KnowsTokenizersApart) {
  const std::filesystem::path golden = std::filesystem::path(SSA_GOLDEN_DIR) / "tokenizer";
  EXPECT_NE(tokenizer_fingerprint(Tokenizer::from_file(golden / "smollm2.json")),
            tokenizer_fingerprint(Tokenizer::from_file(golden / "qwen2.json")));
}

TEST(TokenizerFingerprint, StaysWhenGistsAreAdded) {
  Json json = read_json_file(std::filesystem::path(SSA_GOLDEN_DIR) / "tokenizer/smollm2.json");
  const Tokenizer base = Tokenizer::from_json(json);
  for (const char* name : {"<gist>", "<Gist>", "<MGist>"}) {
    Json token = json["added_tokens"][0];
    token["content"] = name;
    token["id"] = Tokenizer::from_json(json).size();
    json["added_tokens"].push_back(token);
  }
  const Tokenizer gisted = Tokenizer::from_json(json);
  ASSERT_EQ(gisted.size(), base.size() + 3);
  EXPECT_EQ(n_text_tokens(gisted), base.size());
  EXPECT_EQ(tokenizer_fingerprint(gisted), tokenizer_fingerprint(base));
}

}  // namespace
}  // namespace ssa
