// What the Hugging Face library gives for the same tokenizers and texts.
#include <gtest/gtest.h>

#include <fstream>

#include "base/json.h"
#include "base/text.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/split_regex.h"
#include "tokenizer/tokenizer.h"

namespace ssa {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(SSA_GOLDEN_DIR) / "tokenizer";

using Ids = std::vector<int64_t>;

class Family : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    std::ifstream file(kFolder / (GetParam() + std::string("_cases.jsonl")));
    for (std::string line; std::getline(file, line);) {
      rows_.push_back(parse_json(line, "case"));
    }
    ASSERT_GT(rows_.size(), 100u);
  }

  Tokenizer tokenizer_ = Tokenizer::from_file(kFolder / (GetParam() + std::string(".json")));
  std::vector<Json> rows_;
};

TEST_P(Family, EncodesAsTheLibrary) {
  for (const Json& row : rows_) {
    const std::string text = row["text"];
    for (const bool parse : {false, true}) {
      const std::string name = parse ? "parsed" : "plain";
      EXPECT_EQ(tokenizer_.encode(text, {.add_special = false, .parse_special = parse}),
                row[name].get<Ids>())
          << dump_json(row["text"]);
      if (const Json* added = find_key(row, (name + "_added").c_str())) {
        EXPECT_EQ(tokenizer_.encode(text, {.add_special = true, .parse_special = parse}),
                  added->get<Ids>())
            << dump_json(row["text"]);
      }
    }
  }
}

TEST_P(Family, DecodesAsTheLibrary) {
  for (const Json& row : rows_) {
    const Json* added = find_key(row, "parsed_added");
    const Ids ids = (added != nullptr ? *added : row["parsed"]).get<Ids>();
    const std::string decoded = get_or<std::string>(row, "decoded", row["text"]);
    EXPECT_EQ(tokenizer_.decode(ids), decoded);
    EXPECT_EQ(tokenizer_.decode(ids, true), get_or<std::string>(row, "skipped", decoded));
  }
}

TEST_P(Family, DetokenizesAsItDecodes) {
  for (const Json& row : rows_) {
    const Ids ids = row["parsed"].get<Ids>();
    for (const bool skip : {false, true}) {
      Detokenizer detokenizer(tokenizer_, skip);
      std::string text;
      for (const int64_t id : ids) {
        text += detokenizer.push(id);
      }
      text += detokenizer.finish();
      EXPECT_EQ(text, tokenizer_.decode(ids, skip));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, Family, testing::Values("smollm2", "llama3", "qwen2"));

std::string words_of(const PreTokenizer& pre_tokenizer, const std::string& text) {
  struct Joiner final : WordSink {
    std::string joined;
    void word(std::string_view bytes) override {
      joined += (joined.empty() ? "" : " ") + bytes_to_token(bytes);
    }
  } joiner;
  PreTokenizer::Scratch scratch(pre_tokenizer);
  pre_tokenizer.split(text, scratch, joiner);
  return joiner.joined;
}

TEST(TokenizerGolden, SplitsIntoTheLibrarysWords) {
  const Json golden = read_json_file(kFolder / "words.json");
  for (const Json& item : golden["cases"]) {
    const Json& spec = item["pre_tokenizer"];
    const PreTokenizer pre_tokenizer(spec);
    for (size_t i = 0; i < golden["texts"].size(); ++i) {
      const std::string text = golden["texts"][i];
      EXPECT_EQ(words_of(pre_tokenizer, text), item["words"][i].get<std::string>())
          << dump_json(spec["pretokenizers"]) << " on " << dump_json(text);
    }
  }
}

TEST(TokenizerGolden, HasTheLibrarysNormalForms) {
  const Json golden = read_json_file(kFolder / "normal_forms.json");
  for (const char* form : {"NFC", "NFD", "NFKC", "NFKD"}) {
    const Json spec = {{"type", form}};
    const Normalizer normalizer(&spec);
    for (size_t i = 0; i < golden["texts"].size(); ++i) {
      EXPECT_EQ(normalizer.apply(golden["texts"][i].get<std::string>()).text(),
                golden[form][i].get<std::string>())
          << form << " of " << golden["texts"][i].dump(-1, ' ', true);
    }
  }
}

/// Tries every character but the surrogates.
void expect_class(const SplitRegex& regex, const Json& ranges, const char* name) {
  std::vector<bool> expected(0x110000);
  for (const Json& range : ranges) {
    for (int c = range[0].get<int>(); c <= range[1].get<int>(); ++c) {
      expected[static_cast<size_t>(c)] = true;
    }
  }
  RegexMatcher matcher(regex);
  size_t n_wrong = 0;
  for (char32_t c = 1; c < 0x110000; ++c) {
    if (c == 0xD800) {
      c = 0xE000;
    }
    std::string text;
    append_utf8(text, c);
    matcher.start(text);
    if (matcher.next().has_value() != expected[c] && ++n_wrong < 5) {
      ADD_FAILURE() << name << ": U+" << std::hex << static_cast<uint32_t>(c);
    }
  }
  EXPECT_EQ(n_wrong, 0u) << name;
}

TEST(TokenizerGolden, ClassesHoldTheLibrarysCharacters) {
  const Json golden = read_json_file(kFolder / "unicode_classes.json");
  expect_class(SplitRegex::from_pattern(R"(\p{L})"), golden["letters"], "letters");
  expect_class(SplitRegex::from_pattern(R"(\P{^N})"), golden["numbers"], "numbers");
  expect_class(SplitRegex::from_pattern(R"([\p{M}])"), golden["marks"], "marks");
  expect_class(SplitRegex::from_pattern(R"(\s)"), golden["spaces"], "spaces");
  expect_class(SplitRegex::from_pattern(R"(\w)"), golden["word"], "word");
  expect_class(SplitRegex::digits(), golden["digits"], "digits");
}

}  // namespace
}  // namespace ssa
