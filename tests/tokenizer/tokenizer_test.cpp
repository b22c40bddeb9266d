#include "tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/error.h"
#include "support/expect_error.h"
#include "tokenizer/byte_alphabet.h"

namespace ssa {
namespace {

using Ids = std::vector<int64_t>;

/// All 256 bytes at their own ids, a few merges (256: "ab", 257: "abc", 258: "aa"), and added
/// tokens.
Json spec() {
  Json spec = parse_json(R"({
    "added_tokens": [{"content": "<s>", "special": true, "normalized": false},
                     {"content": "<tool>", "special": false, "normalized": false}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"], ["ab", "c"], ["a", "a"]]}
  })",
                         "spec");
  Json& vocab = spec["model"]["vocab"];
  for (int byte = 0; byte < 256; ++byte) {
    const char letter = static_cast<char>(byte);
    vocab[bytes_to_token({&letter, 1})] = byte;
  }
  vocab["ab"] = 256;
  vocab["abc"] = 257;
  vocab["aa"] = 258;
  return spec;
}
constexpr int64_t kSpecial = 259, kTool = 260;

Tokenizer tokenizer() {
  return Tokenizer::from_json(spec());
}

Ids bytes(std::string_view text) {
  Ids ids;
  for (const char byte : text) {
    ids.push_back(static_cast<unsigned char>(byte));
  }
  return ids;
}

TEST(Tokenizer, MergesByRankFromTheLeft) {
  EXPECT_EQ(tokenizer().encode("abc"), Ids({257}));
  EXPECT_EQ(tokenizer().encode("aab"), Ids({'a', 256}));  // "ab" comes before "aa"
  EXPECT_EQ(tokenizer().encode("aaa"), Ids({258, 'a'}));
  EXPECT_EQ(tokenizer().encode(""), Ids());
}

TEST(Tokenizer, LongWordsTakeAboutLinearTime) {
  const Tokenizer t = tokenizer();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(t.encode(std::string(1'000'000, 'a')), Ids(500'000, 258));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(Tokenizer, ScannedAndHeapedWordsMergeAlike) {
  // "aab" repeated: long words take another path than short ones, and their halves must agree.
  const Tokenizer t = tokenizer();
  for (size_t n = 1; n < 60; ++n) {
    std::string word;
    Ids expected;
    for (size_t i = 0; i < n; ++i) {
      word += "aab";
      expected.insert(expected.end(), {'a', 256});
    }
    EXPECT_EQ(t.encode(word), expected) << n;
  }
}

TEST(Tokenizer, SpecialTokensAreParsedOnlyWhereAllowed) {
  const Tokenizer t = tokenizer();
  EXPECT_EQ(t.encode("a<s>"), Ids({'a', kSpecial}));
  Ids letters = bytes("a<s>");
  EXPECT_EQ(t.encode("a<s>", {.parse_special = false}), letters);
  EXPECT_EQ(t.encode("<tool>", {.parse_special = false}), Ids({kTool}));
}

struct SpanCase {
  std::vector<TextSpan> spans;
  Ids expected;
};

TEST(Tokenizer, SpansHonourSpecialTokensOfTheTemplateAlone) {
  const std::vector<SpanCase> cases = {
      {{{"<s>", false}, {"x<s>", true}, {"<s>", false}}, {kSpecial, 'x', '<', 's', '>', kSpecial}},
      {{{"<", false}, {"s>", false}}, {kSpecial}},  // two pieces of the template
      {{{"<", false}, {"s", true}, {">", false}}, {'<', 's', '>'}},
      {{{"<s", true}, {">", false}}, {'<', 's', '>'}},
      {{{"<s", false}, {"", true}, {">", false}}, {kSpecial}},  // an empty message
      {{{"a", false}, {"b", true}, {"c", false}}, {257}},       // one text to everything else
      {{{"\xE4\xB8", true}, {"\xAD", false}}, {0xE4, 0xB8, 0xAD}},
  };
  const Tokenizer t = tokenizer();
  for (const SpanCase& c : cases) {
    EXPECT_EQ(t.encode(std::span<const TextSpan>(c.spans)), c.expected);
  }
}

TEST(Tokenizer, SpansFollowSpecialTokensThroughNormalisation) {
  Json json = spec();
  json["normalizer"] = {{"type", "NFC"}};
  json["added_tokens"] =
      parse_json(R"([{"content": "\u01FA", "special": true, "normalized": true}])", "added_tokens");
  const Tokenizer t = Tokenizer::from_json(json);
  EXPECT_EQ(t.encode("xA\u030A\u0301x"), Ids({'x', 259, 'x'}));
  const TextSpan behind_input[] = {{"e\u0301", true}, {"A\u030A\u0301", false}};
  EXPECT_EQ(t.encode(behind_input), Ids({0xC3, 0xA9, 259}));
  const TextSpan half[] = {{"A\u030A", false}, {"\u0301", true}};
  EXPECT_EQ(t.encode(half), Ids({0xC7, 0xBA}));
}

TEST(Tokenizer, AddedTokensStripAndStandAlone) {
  Json json = spec();
  json["added_tokens"] = parse_json(R"([
    {"content": "<l>", "lstrip": true, "normalized": false},
    {"content": "<r>", "rstrip": true, "normalized": false},
    {"content": "one", "single_word": true, "normalized": false},
    {"content": "<l", "normalized": false}
  ])",
                                    "added_tokens");
  const Tokenizer t = Tokenizer::from_json(json);
  EXPECT_EQ(t.encode("a \u3000<l>b"), Ids({'a', 259, 'b'}));
  EXPECT_EQ(t.encode("<r>\n <l>"), Ids({260, 259}));
  EXPECT_EQ(t.encode("one"), Ids({261}));
  EXPECT_EQ(t.encode("(one)"), Ids({'(', 261, ')'}));
  EXPECT_EQ(t.encode("bone").size(), 4u);
  EXPECT_EQ(t.encode("on\u00e9one").size(), 7u);
  EXPECT_EQ(t.encode("<l"), Ids({262}));
}

TEST(Tokenizer, BrokenUtf8IsAnErrorNamingTheByte) {
  expect_error([] { tokenizer().encode("ab\xFFz"); }, "text is not UTF-8 at byte 2");
  expect_error([] { tokenizer().encode("ab\xE4\xB8"); }, "text is not UTF-8 at byte 2");
  expect_error([] { tokenizer().encode("\uFFFD\xEF\xBFz"); }, "text is not UTF-8 at byte 3");
}

TEST(Tokenizer, DecodesBrokenBytesAndUnknownIds) {
  const Tokenizer t = tokenizer();
  EXPECT_EQ(t.decode(Ids{'a', 0xE4, 0xB8, 'b', 99999, -1}), "a\uFFFDb");
  EXPECT_EQ(t.decode(Ids{kSpecial, 'a', kTool}, true), "a<tool>");
  EXPECT_EQ(t.token_bytes(kSpecial), "<s>");
  EXPECT_EQ(t.token_bytes(' '), " ");
  EXPECT_EQ(t.token_bytes(99999), "");
}

TEST(Tokenizer, KnowsItsTokens) {
  const Tokenizer t = tokenizer();
  EXPECT_EQ(t.size(), 261);
  EXPECT_EQ(t.token_to_id("Ġ"), ' ');
  EXPECT_EQ(t.token_to_id("<s>"), kSpecial);
  EXPECT_EQ(t.token_to_id("missing"), std::nullopt);
  EXPECT_EQ(t.id_to_token(' '), "Ġ");
  EXPECT_TRUE(t.is_special(kSpecial));
  EXPECT_FALSE(t.is_special(kTool));
  EXPECT_FALSE(t.is_special(-5));
  expect_error([&] { t.id_to_token(261); }, "token id 261 is not in the vocabulary");
}

TEST(Tokenizer, HoldsBackUnfinishedCharacters) {
  const Tokenizer t = tokenizer();
  Detokenizer detokenizer(t);
  EXPECT_EQ(detokenizer.push(0xF0), "");
  EXPECT_EQ(detokenizer.push(0x9F), "");
  EXPECT_EQ(detokenizer.push(0x98), "");
  EXPECT_EQ(detokenizer.push(kSpecial), "");
  EXPECT_EQ(detokenizer.push(0x80), "\U0001F600");
  EXPECT_EQ(detokenizer.push(0xE4), "");
  EXPECT_EQ(detokenizer.push('a'), "\uFFFDa");
  EXPECT_EQ(detokenizer.push(0xE4), "");
  EXPECT_EQ(detokenizer.finish(), "\uFFFD");
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(Tokenizer, EncodesFromManyThreads) {
  const Tokenizer t = tokenizer();
  const std::string text = "abc aab <s> \u4E2D\u6587 isn't " + std::string(200, 'a');
  const Ids expected = t.encode(text);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (size_t i = 0; i < wrong.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < 200; ++n) {
        wrong[i] += t.encode(text) != expected;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, std::vector<int>(4));
}

TEST(Tokenizer, TakesMergesAsLines) {
  Json json = spec();
  json["model"]["merges"] = Json::array({"#version: 0.2", "a b", "ab c", "a a"});
  EXPECT_EQ(Tokenizer::from_json(json).encode("abc aaa"), Ids({257, ' ', 258, 'a'}));
}

TEST(Tokenizer, LeavesOutOrReplacesBytesWithoutToken) {
  Json json = spec();
  json["added_tokens"] = nullptr;
  json["model"] = parse_json(R"({"vocab": {"a": 0, "?": 1}, "merges": []})", "model");
  EXPECT_EQ(Tokenizer::from_json(json).encode("axya"), Ids({0, 0}));
  json["model"]["unk_token"] = "?";
  EXPECT_EQ(Tokenizer::from_json(json).encode("axya"), Ids({0, 1, 1, 0}));
  json["model"]["fuse_unk"] = true;
  EXPECT_EQ(Tokenizer::from_json(json).encode("axya"), Ids({0, 1, 0}));
}

struct BrokenCase {
  const char* pointer;  // what of spec() is replaced
  const char* value;    // JSON
  const char* message;
};

constexpr BrokenCase kBroken[] = {
    {"/model", "null", "model: missing"},
    {"/model/type", R"("Unigram")", "model: type 'Unigram' is not supported (known: BPE)"},
    {"/model/vocab/a", "-1", "model: vocab: id -1 of 'a' is out of range"},
    {"/model/vocab/a", "4000000000", "out of range for 259 tokens"},
    {"/model/vocab/a", R"("x")", "expected an integer"},
    {"/model/merges", "{}", "model: merges: expected a list"},
    {"/model/merges/0", R"(["a"])", "is not a pair"},
    {"/model/merges/0", R"("a b c")", "is not two tokens"},
    {"/model/merges/0", R"(["a", "zz"])", "model: merges: token 'zz' is not in vocab"},
    {"/model/dropout", "0.1", "model: dropout is not supported"},
    {"/model/end_of_word_suffix", R"("</w>")", "end_of_word_suffix '</w>' is not supported"},
    {"/normalizer", R"({"type": "Lowercase"})", "normalizer: type 'Lowercase' is not supported"},
    {"/pre_tokenizer", "null", "pre_tokenizer: missing"},
    {"/pre_tokenizer", R"({"type": "Digits"})", "pre_tokenizer: ByteLevel is missing"},
    {"/pre_tokenizer", R"({"type": "Whitespace"})", "type 'Whitespace' is not supported"},
    {"/post_processor/single/0",
     R"({"SpecialToken": {"id": "<x>"}})",
     "post_processor: '<x>' is not in special_tokens"},
    {"/decoder", "null", "decoder: missing"},
    {"/decoder/type", R"("WordPiece")", "decoder: type 'WordPiece' is not supported"},
    {"/added_tokens", "3", "added_tokens: expected a list"},
    {"/added_tokens/0/content", "3", "added_tokens: key 'content'"},
};

TEST(Tokenizer, BrokenFilesAreErrorsNamingThePart) {
  for (const BrokenCase& c : kBroken) {
    Json json = spec();
    json["post_processor"] = parse_json(
        R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}], "special_tokens": {}})",
        "template");
    json[Json::json_pointer(c.pointer)] = parse_json(c.value, "value");
    expect_error([&] { Tokenizer::from_json(json); }, c.message);
  }
}

Json with_split(const char* pattern) {
  Json json = spec();
  json["pre_tokenizer"] = parse_json(
      R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "behavior": "Isolated"},
          {"type": "ByteLevel", "add_prefix_space": false}]})",
      "split");
  json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern;
  return json;
}

TEST(Tokenizer, PatternsBeyondThoseSupportedAreErrors) {
  const std::pair<const char*, const char*> cases[] = {
      {"(a", "pre_tokenizer: pattern '(a': missing closing parenthesis"},
      {"a)", "pattern 'a)': ) without ("},
      {"(a)\\1", "\\1 at byte 5 is not supported"},
      {"a\\b", "\\b at byte 3 is not supported"},
      {"[a[b]]", "a class within a class at byte 3 is not supported"},
      {"[a&&b]", "&& in a class"},
      {"[a-\\s]", "a range to a set of characters"},
      {"[^\\W]", "a negated set within a class"},
      {"[a", "pattern '[a' ends too early"},
      {"(?x: a)", "this kind of group"},
      {"\\p{Nonsense}", "pre_tokenizer: pattern"},
      {"\\xFF", "\\x without two digits below 80"},
  };
  for (const auto& [pattern, message] : cases) {
    expect_error([&] { Tokenizer::from_json(with_split(pattern)); }, message);
  }
}

TEST(Tokenizer, RunawayPatternsAreErrors) {
  const Tokenizer t = Tokenizer::from_json(with_split("(a+)+[bc]"));
  expect_error([&] { t.encode(std::string(64, 'a')); }, "splitting the text failed at byte 0");
}

}  // namespace
}  // namespace ssa
