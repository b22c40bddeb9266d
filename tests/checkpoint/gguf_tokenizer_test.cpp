#include "checkpoint/gguf_tokenizer.h"

#include "checkpoint/gguf_pretokenizers.h"
#include "gguf_fixtures.h"
#include "hf_fixtures.h"

namespace ssa {
namespace {

/// The keys that are written for these parts, read again.
struct WrittenTokenizer {
  explicit WrittenTokenizer(const TokenizerParts& parts, int64_t vocab_size = 800) {
    GgufHeader header;
    write_gguf_tokenizer(parts, vocab_size, header);
    bytes = header.bytes();
  }
  GgufFile file() const { return parse_gguf(bytes); }
  std::string bytes;
};

/// A golden tokenizer without its added tokens that GGUF cannot express.
Json golden_tokenizer(const std::string& family) {
  Json tokenizer = read_json_file(golden("tokenizer/" + family + ".json"));
  Json kept = Json::array();
  for (Json& token : tokenizer["added_tokens"]) {
    if (!token["single_word"] && !token["lstrip"] && !token["normalized"]) {
      kept.push_back(token);
    }
  }
  tokenizer["added_tokens"] = kept;
  return tokenizer;
}

struct FamilyCase {
  const char* golden;
  const char* pre;
  bool add_bos;
};

class GgufTokenizerFamily : public ::testing::TestWithParam<FamilyCase> {};

TEST_P(GgufTokenizerFamily, ThereAndBack) {
  const Json original = golden_tokenizer(GetParam().golden);
  const std::string first = original["added_tokens"][0]["content"];
  const WrittenTokenizer written(
      {.tokenizer_json = original,
       .tokenizer_config = {{"bos_token", first}, {"eos_token", {{"content", first}}}},
       .chat_template = "{{ x }}"});
  const GgufFile file = written.file();
  EXPECT_EQ(file.string("tokenizer.ggml.pre"), GetParam().pre);
  EXPECT_EQ(file.string("tokenizer.chat_template"), "{{ x }}");
  EXPECT_EQ(file.boolean("tokenizer.ggml.add_bos_token"), GetParam().add_bos);
  const auto tokens = file.strings("tokenizer.ggml.tokens");
  EXPECT_EQ(tokens->size(), 800u);
  EXPECT_EQ(tokens->back(), "[PAD799]");
  EXPECT_EQ(file.integers("tokenizer.ggml.token_type")->back(), 5);

  const Json back = read_gguf_tokenizer(file);
  EXPECT_EQ(back["added_tokens"], original["added_tokens"]);
  EXPECT_EQ(back["model"]["vocab"].size(), original["model"]["vocab"].size());
  for (const auto& [token, id] : original["model"]["vocab"].items()) {
    ASSERT_EQ(back["model"]["vocab"].at(token), id) << token;
  }
  EXPECT_EQ(back["normalizer"], original["normalizer"]);
  EXPECT_EQ(back["model"]["ignore_merges"], original["model"]["ignore_merges"]);
  EXPECT_EQ(match_tokenizer_family(back).names.front(), GetParam().pre);
  const Json config = read_gguf_tokenizer_config(file);
  EXPECT_EQ(config["bos_token"], first);
  EXPECT_EQ(config["eos_token"], first);
  EXPECT_EQ(config["chat_template"], "{{ x }}");
  // A second pass changes nothing.
  const WrittenTokenizer again(
      {.tokenizer_json = back, .tokenizer_config = config, .chat_template = "{{ x }}"});
  EXPECT_EQ(again.bytes, written.bytes);
}

INSTANTIATE_TEST_SUITE_P(GgufTokenizer,
                         GgufTokenizerFamily,
                         ::testing::Values(FamilyCase{"smollm2", "smollm", false},
                                           FamilyCase{"llama3", "llama-bpe", true},
                                           FamilyCase{"qwen2", "qwen2", false}),
                         [](const auto& family) { return family.param.golden; });

TEST(GgufTokenizer, OfTheGgufPackage) {
  const GgufFile file(golden("gguf/model.gguf"));
  const Json tokenizer = read_gguf_tokenizer(file);
  EXPECT_EQ(tokenizer["model"]["vocab"].size(), 32u);  // up to the last token that is not added
  EXPECT_EQ(tokenizer["model"]["vocab"]["<|im_start|>"], 1);
  EXPECT_EQ(tokenizer["model"]["vocab"]["Ġthe"], 31);
  EXPECT_EQ(dump_json(tokenizer["model"]["merges"]), R"(["t h","th e","Ġ the"])");
  ASSERT_EQ(tokenizer["added_tokens"].size(), 3u);
  EXPECT_EQ(tokenizer["added_tokens"][1]["special"], true);
  EXPECT_EQ(tokenizer["added_tokens"][2]["id"], 32);
  EXPECT_EQ(tokenizer["added_tokens"][2]["special"], false);
  EXPECT_EQ(tokenizer["post_processor"]["type"], "TemplateProcessing");  // add_bos_token
  EXPECT_EQ(dump_json(tokenizer["post_processor"]["special_tokens"]["<|im_start|>"]),
            R"({"id":"<|im_start|>","ids":[1],"tokens":["<|im_start|>"]})");
  EXPECT_EQ(tokenizer["pre_tokenizer"]["pretokenizers"][0]["type"], "Digits");
  const Json config = read_gguf_tokenizer_config(file);
  EXPECT_EQ(config["bos_token"], "<|im_start|>");
  EXPECT_EQ(config["eos_token"], "<|endoftext|>");
  EXPECT_TRUE(config["pad_token"].is_null());
  EXPECT_EQ(config["model_max_length"], 256);
}

TEST(GgufTokenizer, NoneIsNull) {
  const WrittenTokenizer none({});
  EXPECT_TRUE(read_gguf_tokenizer(none.file()).is_null());
  EXPECT_TRUE(read_gguf_tokenizer_config(none.file()).is_null());
}

/// A tokenizer of four tokens with one thing changed.
struct BrokenTokenizer {
  std::string model = "gpt2";
  std::string pre = "gpt-2";
  std::vector<std::string> tokens = {"a", "b", "ab", "<s>"};
  std::vector<int32_t> types = {1, 1, 1, 3};
  std::vector<std::string> merges = {"a b"};
  int64_t bos = 3;

  void refused(const std::vector<std::string>& message) const {
    GgufHeader header;
    header.add_string("tokenizer.ggml.model", model);
    header.add_string("tokenizer.ggml.pre", pre);
    header.add_strings("tokenizer.ggml.tokens", tokens);
    header.add_int32s("tokenizer.ggml.token_type", types);
    header.add_strings("tokenizer.ggml.merges", merges);
    header.add_uint32("tokenizer.ggml.bos_token_id", bos);
    header.add_bool("tokenizer.ggml.add_bos_token", true);
    const std::string bytes = header.bytes();
    expect_error([&] { read_gguf_tokenizer(parse_gguf(bytes)); }, message);
  }
};

TEST(GgufTokenizer, BrokenOnesAreRefused) {
  BrokenTokenizer{.model = "llama"}.refused({"x.gguf", "'llama'", "gpt2"});
  BrokenTokenizer{.pre = "tekken"}.refused({"'tekken'", "smollm", "llama-bpe", "qwen2", "gpt-2"});
  BrokenTokenizer{.tokens = {"a", "b", "a", "<s>"}}.refused({"token 2", "repeats"});
  BrokenTokenizer{.tokens = {"a", "b", "\xFF", "<s>"}}.refused({"token 2", "UTF-8"});
  BrokenTokenizer{.types = {1, 1}}.refused({"token_type", "2", "4"});
  BrokenTokenizer{.merges = {"a b", "ab"}}.refused({"merge 1", "'ab'"});
  BrokenTokenizer{.merges = {"a b c"}}.refused({"merge 0"});
  BrokenTokenizer{.bos = 4}.refused({"bos_token_id", "4"});
}

TEST(GgufTokenizer, WhatGgufCannotExpressIsRefused) {
  const auto refused = [](const Json& tokenizer, const std::vector<std::string>& message) {
    expect_error([&] { WrittenTokenizer({.tokenizer_json = tokenizer}); }, message);
  };
  const Json good = golden_tokenizer("smollm2");
  Json bad = good;
  bad["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = false;
  refused(bad, {"Digits(0)", "smollm"});
  bad = good;
  bad["normalizer"] = {{"type", "Lowercase"}};
  refused(bad, {"Lowercase", "smollm"});
  bad = good;
  bad["model"]["type"] = "Unigram";
  refused(bad, {"Unigram", "BPE"});
  bad = good;
  bad["added_tokens"][0]["lstrip"] = true;
  refused(bad, {"'<|endoftext|>'", "lstrip"});
  bad = golden_tokenizer("qwen2");
  bad["added_tokens"][0]["normalized"] = true;
  refused(bad, {"'<|endoftext|>'", "normalized"});
  bad = good;
  bad["added_tokens"][0]["id"] = 5000;
  refused(bad, {"'<|endoftext|>'", "5000", "800"});
  bad = good;
  bad["added_tokens"][0]["id"] = 20;
  refused(bad, {"'<|endoftext|>'", "share", "20"});
  bad = good;
  bad["model"].erase("merges");
  refused(bad, {"'merges'", "missing"});
  bad = good;
  bad["model"]["merges"][0] = Json::array({"a b", "c"});
  refused(bad, {"merge 0", "space"});
}

}  // namespace
}  // namespace ssa
