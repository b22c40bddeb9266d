#include "checkpoint/gguf_pretokenizers.h"

#include <algorithm>
#include <span>

#include "base/error.h"
#include "base/text.h"
#include "checkpoint/gguf_value.h"

namespace ssa {
namespace {

// What llama-bpe and qwen2 share before and after their rule for digits.
constexpr const char* kWordsOfLlama3 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)";
constexpr const char* kRestOfLlama3 = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))";

Json byte_level(bool add_prefix_space, bool trim_offsets, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", trim_offsets},
          {"use_regex", use_regex}};
}

Json split(const std::string& pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

Json sequence(std::initializer_list<Json> steps) {
  Json list = Json::array();
  for (const Json& step : steps) {
    list.push_back(step);
  }
  return {{"type", "Sequence"}, {"pretokenizers", list}};
}

TokenizerFamily smollm() {
  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  return {.names = {"smollm", "starcoder", "refact"},
          .pre_tokenizer = sequence({digits, byte_level(false, true, true)}),
          .decoder = byte_level(true, true, true)};
}

TokenizerFamily gpt2() {
  return {.names = {"gpt-2", "phi-2"},
          .pre_tokenizer = byte_level(false, true, true),
          .post_processor = byte_level(true, false, true),
          .decoder = byte_level(true, true, true)};
}

TokenizerFamily llama3() {
  const std::string pattern = std::string(kWordsOfLlama3) + R"(\p{N}{1,3})" + kRestOfLlama3;
  return {.names = {"llama-bpe", "llama3", "llama-v3"},
          .pre_tokenizer = sequence({split(pattern), byte_level(false, true, false)}),
          .post_processor = byte_level(true, false, true),
          .decoder = byte_level(true, true, true),
          .ignore_merges = true,
          .add_bos = true};
}

/// llama3's words without its shortcut past the merges.
TokenizerFamily smaug() {
  TokenizerFamily family = llama3();
  family.names = {"smaug-bpe", "dbrx"};
  family.ignore_merges = false;
  family.add_bos = false;
  return family;
}

TokenizerFamily qwen2() {
  const std::string pattern = std::string(kWordsOfLlama3) + R"(\p{N})" + kRestOfLlama3;
  return {.names = {"qwen2", "deepseek-r1-qwen"},
          .normalizer = {{"type", "NFC"}},
          .pre_tokenizer = sequence({split(pattern), byte_level(false, false, false)}),
          .post_processor = byte_level(false, false, false),
          .decoder = byte_level(false, false, false)};
}

/// No family's own: what llama.cpp does for files whose converter did not know the family.
TokenizerFamily fallback() {
  return {.names = {"default"},
          .pre_tokenizer = sequence({split(R"([\p{P}\$\+<=>\^~\|]+)"),
                                     split(kGpt2),
                                     split(R"(\p{N}+)"),
                                     split("[0-9][0-9][0-9]"),
                                     byte_level(false, true, false)}),
          .decoder = byte_level(true, true, true)};
}

const std::vector<TokenizerFamily>& families() {
  static const std::vector<TokenizerFamily> all = {
      smollm(), llama3(), qwen2(), gpt2(), smaug(), fallback()};
  return all;
}

std::string known_names() {
  std::vector<std::string> names;
  for (const TokenizerFamily& family : families()) {
    names.insert(names.end(), family.names.begin(), family.names.end());
  }
  return join(names, ", ");
}

std::string describe_split(const Json& step) {
  const Json* pattern = find_key(step, "pattern");
  return concat(pattern == nullptr ? "" : dump_json(*pattern),
                get_or(step, "behavior", std::string()),
                get_or(step, "invert", false));
}

/// A pipeline as one string: what decides how text is cut, in order, with defaults filled in.
std::string describe(const Json& step) {
  if (step.is_null()) {
    return "";
  }
  const auto type = get_or(step, "type", std::string());
  if (type == "Sequence") {
    std::string all;
    for (const char* key : {"pretokenizers", "normalizers"}) {
      const Json* steps = find_key(step, key);
      for (const Json& inner : steps == nullptr ? Json::array() : *steps) {
        all += describe(inner);
      }
    }
    return all;
  }
  std::string settings;
  if (type == "ByteLevel") {
    settings = concat(get_or(step, "add_prefix_space", true), get_or(step, "use_regex", true));
  } else if (type == "Digits") {
    settings = concat(get_or(step, "individual_digits", false));
  } else if (type == "Split") {
    settings = describe_split(step);
  } else if (type != "NFC") {
    settings = dump_json(step);  // matches no family
  }
  return type + "(" + settings + ")";
}

const Json& part(const Json& object, const char* key) {
  static const Json null;
  const Json* value = find_key(object, key);
  return value == nullptr ? null : *value;
}

}  // namespace

const TokenizerFamily& find_tokenizer_family(std::string_view pre) {
  for (const TokenizerFamily& family : families()) {
    if (std::find(family.names.begin(), family.names.end(), pre) != family.names.end()) {
      return family;
    }
  }
  fail("tokenizer.ggml.pre ", printable(pre), " is not supported (known: ", known_names(), ")");
}

const TokenizerFamily& match_tokenizer_family(const Json& tokenizer_json) {
  const std::string normalizer = describe(part(tokenizer_json, "normalizer"));
  const std::string pre_tokenizer = describe(part(tokenizer_json, "pre_tokenizer"));
  const bool ignore_merges = get_or(part(tokenizer_json, "model"), "ignore_merges", false);
  for (const TokenizerFamily& family : families()) {
    if (describe(family.normalizer) == normalizer &&
        describe(family.pre_tokenizer) == pre_tokenizer && family.ignore_merges == ignore_merges) {
      return family;
    }
  }
  fail("this tokenizer's pipeline ",
       normalizer,
       pre_tokenizer,
       ignore_merges ? " with ignore_merges" : "",
       " is none that GGUF has a name for (those that can be written: ",
       known_names(),
       ")");
}

}  // namespace ssa
