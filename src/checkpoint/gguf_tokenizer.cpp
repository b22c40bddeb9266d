#include "checkpoint/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "checkpoint/gguf_pretokenizers.h"
#include "checkpoint/gguf_token_type.h"

namespace ssa {
namespace {

/// The token list, checked.
struct Tokens {
  std::vector<std::string_view> texts;
  std::vector<int64_t> types;

  std::string_view text(int64_t id) const { return texts[static_cast<size_t>(id)]; }
  bool is_added(size_t id) const {
    return types[id] == kControlToken || types[id] == kUserDefinedToken;
  }
};

bool has_tokenizer(const GgufFile& file) {
  const std::string_view model = file.string("tokenizer.ggml.model").value_or("none");
  check(model == "gpt2" || model == "none" || model == "no_vocab",
        "tokenizer.ggml.model ",
        printable(model),
        " is not supported, only gpt2 (byte-level BPE)");
  return model == "gpt2";
}

Tokens read_tokens(const GgufFile& file) {
  const auto texts = file.strings("tokenizer.ggml.tokens");
  check(texts.has_value(), "key 'tokenizer.ggml.tokens' is missing");
  Tokens tokens;
  tokens.texts = *texts;
  tokens.types = file.integers("tokenizer.ggml.token_type")
                     .value_or(std::vector<int64_t>(texts->size(), kNormalToken));
  check(tokens.types.size() == texts->size(),
        "tokenizer.ggml.token_type has ",
        tokens.types.size(),
        " entries for ",
        texts->size(),
        " tokens");
  std::unordered_set<std::string_view> seen;
  for (size_t id = 0; id < texts->size(); ++id) {
    const std::string_view text = tokens.texts[id];
    check(is_valid_utf8(text), "token ", id, " is not valid UTF-8");
    check(seen.insert(text).second, "token ", id, " repeats an earlier one");
  }
  return tokens;
}

/// Tokens that the vocabulary proper has: all up to the last one that is neither added nor a filler
/// at the end. Added ones behind it are in added_tokens alone, as in the original files.
size_t vocabulary_size(const Tokens& tokens) {
  size_t end = tokens.texts.size();
  while (end > 0 && tokens.types[end - 1] == kUnusedToken) {
    --end;
  }
  while (end > 0 && tokens.is_added(end - 1)) {
    --end;
  }
  return end;
}

/// An object of that many members in that order. Json's own insertion looks through all members
/// first.
template <class Member>
Json make_object(size_t n, Member member) {
  Json::object_t object;
  object.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    auto [key, value] = member(i);
    object.Json::object_t::Container::emplace_back(std::move(key), std::move(value));
  }
  return object;
}

Json added_tokens(const Tokens& tokens) {
  Json added = Json::array();
  for (size_t id = 0; id < tokens.texts.size(); ++id) {
    if (tokens.is_added(id)) {
      added.push_back({{"id", id},
                       {"content", tokens.texts[id]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", tokens.types[id] == kControlToken}});
    }
  }
  return added;
}

Json read_merges(const GgufFile& file) {
  const auto merges = file.strings("tokenizer.ggml.merges");
  check(merges.has_value(), "key 'tokenizer.ggml.merges' is missing");
  Json list = Json::array();
  list.get_ref<Json::array_t&>().reserve(merges->size());
  for (const std::string_view merge : *merges) {
    const size_t space = merge.find(' ');
    const bool has_two_parts = space != std::string_view::npos && space > 0 &&
                               space + 1 < merge.size() &&
                               merge.find(' ', space + 1) == std::string_view::npos;
    if (!has_two_parts || !is_valid_utf8(merge)) {
      fail("merge ", list.size(), " is not two tokens with a space between: ", printable(merge));
    }
    list.push_back(merge);
  }
  return list;
}

Json bpe_model(const GgufFile& file, const Tokens& tokens, bool ignore_merges) {
  Json vocab = make_object(vocabulary_size(tokens), [&](size_t id) {
    return std::pair(std::string(tokens.texts[id]), Json(id));
  });
  Json model = {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", nullptr},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", false},
                {"byte_fallback", false},
                {"ignore_merges", ignore_merges}};
  model["vocab"] = std::move(vocab);
  model["merges"] = read_merges(file);
  return model;
}

/// The post-processor that puts these tokens around a text.
Json template_processing(const Tokens& tokens,
                         std::optional<int64_t> bos,
                         std::optional<int64_t> eos) {
  Json special = Json::object();
  const auto add_special = [&](std::optional<int64_t> id, int segment, Json& steps) {
    if (id) {
      const std::string text(tokens.text(*id));
      steps.push_back({{"SpecialToken", {{"id", text}, {"type_id", segment}}}});
      special[text] = {{"id", text}, {"ids", {*id}}, {"tokens", {text}}};
    }
  };
  const auto add_text = [&](const char* text, int segment, Json& steps) {
    add_special(bos, segment, steps);
    steps.push_back({{"Sequence", {{"id", text}, {"type_id", segment}}}});
    add_special(eos, segment, steps);
  };
  Json single = Json::array();
  add_text("A", 0, single);
  Json pair = Json::array();
  add_text("A", 0, pair);
  add_text("B", 1, pair);
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", special}};
}

Json post_processor(const GgufFile& file, const Tokens& tokens, const TokenizerFamily& family) {
  const auto wanted =
      [&](const char* flag, bool fallback, const char* key) -> std::optional<int64_t> {
    if (!file.boolean(flag).value_or(fallback)) {
      return std::nullopt;
    }
    const auto id = file.token_id(key, std::ssize(tokens.texts));
    check(id || !file.find(flag), "key '", flag, "' is set, but there is no '", key, "'");
    return id;
  };
  const auto bos =
      wanted("tokenizer.ggml.add_bos_token", family.add_bos, "tokenizer.ggml.bos_token_id");
  const auto eos = wanted("tokenizer.ggml.add_eos_token", false, "tokenizer.ggml.eos_token_id");
  if (!bos && !eos) {
    return family.post_processor;
  }
  const Json around = template_processing(tokens, bos, eos);
  if (family.post_processor.is_null()) {
    return around;
  }
  return {{"type", "Sequence"}, {"processors", Json::array({family.post_processor, around})}};
}

Json make_tokenizer_json(const GgufFile& file) {
  const TokenizerFamily& family =
      find_tokenizer_family(file.string("tokenizer.ggml.pre").value_or("default"));
  const Tokens tokens = read_tokens(file);
  Json json = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  json["added_tokens"] = added_tokens(tokens);
  json["normalizer"] = family.normalizer;
  json["pre_tokenizer"] = family.pre_tokenizer;
  json["post_processor"] = post_processor(file, tokens, family);
  json["decoder"] = family.decoder;
  json["model"] = bpe_model(file, tokens, family.ignore_merges);
  return json;
}

Json make_tokenizer_config(const GgufFile& file) {
  constexpr std::array<std::pair<const char*, const char*>, 4> kSpecial = {{
      {"bos_token", "tokenizer.ggml.bos_token_id"},
      {"eos_token", "tokenizer.ggml.eos_token_id"},
      {"unk_token", "tokenizer.ggml.unknown_token_id"},
      {"pad_token", "tokenizer.ggml.padding_token_id"},
  }};
  const auto texts =
      file.strings("tokenizer.ggml.tokens").value_or(std::vector<std::string_view>());
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false}};
  for (const auto& [name, key] : kSpecial) {
    const auto id = file.token_id(key, std::ssize(texts));
    config[name] = id ? Json(replace_invalid_utf8(texts[static_cast<size_t>(*id)])) : Json();
  }
  const auto architecture = file.string("general.architecture").value_or("");
  if (const auto length = file.integer(std::string(architecture) + ".context_length")) {
    config["model_max_length"] = *length;
  }
  if (const auto chat_template = file.string("tokenizer.chat_template")) {
    config["chat_template"] = replace_invalid_utf8(*chat_template);
  }
  return config;
}

}  // namespace

Json read_gguf_tokenizer(const GgufFile& file) {
  return naming_file(file,
                     [&] { return has_tokenizer(file) ? make_tokenizer_json(file) : Json(); });
}

Json read_gguf_tokenizer_config(const GgufFile& file) {
  return naming_file(file,
                     [&] { return has_tokenizer(file) ? make_tokenizer_config(file) : Json(); });
}

}  // namespace ssa
