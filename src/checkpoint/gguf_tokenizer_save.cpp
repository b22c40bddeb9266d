// tokenizer.json -> GGUF metadata.
#include <algorithm>
#include <array>
#include <limits>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "checkpoint/gguf_pretokenizers.h"
#include "checkpoint/gguf_token_type.h"
#include "checkpoint/gguf_tokenizer.h"

namespace ssa {
namespace {

const Json& required(const Json& object, const char* key) {
  const Json* value = find_key(object, key);
  check(value != nullptr, "tokenizer.json: key '", key, "' is missing");
  return *value;
}

/// The tokens by id, as they are being collected.
class TokenTable {
 public:
  explicit TokenTable(int64_t size)
      : texts_(static_cast<size_t>(size)), types_(static_cast<size_t>(size), kUnusedToken) {}

  void set(const std::string& text, const Json& id, int32_t type) {
    check(id.is_number_integer(), "tokenizer.json: token '", text, "' has no integer id");
    const auto index = id.get<int64_t>();
    check(index >= 0 && index < std::ssize(texts_),
          "tokenizer.json: token '",
          text,
          "' has the id ",
          index,
          ", but the model's vocabulary has ",
          texts_.size());
    std::string& slot = texts_[static_cast<size_t>(index)];
    check(types_[static_cast<size_t>(index)] == kUnusedToken || slot == text,
          "tokenizer.json: tokens '",
          slot,
          "' and '",
          text,
          "' share the id ",
          index);
    slot = text;
    types_[static_cast<size_t>(index)] = type;
    ids_[text] = index;
  }

  /// Names the ids that no token has.
  void fill_gaps() {
    for (size_t id = 0; id < texts_.size(); ++id) {
      if (types_[id] == kUnusedToken) {
        texts_[id] = concat("[PAD", id, "]");
      }
    }
  }

  std::optional<int64_t> find(const std::string& text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  const std::vector<std::string>& texts() const { return texts_; }
  const std::vector<int32_t>& types() const { return types_; }

 private:
  std::vector<std::string> texts_;
  std::vector<int32_t> types_;
  std::unordered_map<std::string, int64_t> ids_;
};

void check_model(const Json& model) {
  const auto type = get_or(model, "type", std::string("BPE"));
  check(type == "BPE", "tokenizer.json: a ", type, " model cannot be written as GGUF, only BPE");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    check(get_or(model, key, std::string()).empty(),
          "tokenizer.json: ",
          key,
          " cannot be written as GGUF");
  }
  check(!get_or(model, "byte_fallback", false),
        "tokenizer.json: byte_fallback cannot be written as GGUF");
}

/// Throws if the token asks for what GGUF has no place for.
void check_added_token(const Json& token, const std::string& text, bool has_normalizer) {
  for (const char* key : {"single_word", "lstrip", "rstrip", "normalized"}) {
    const bool matters = std::string_view(key) != "normalized" || has_normalizer;
    check(!matters || !get_or(token, key, false),
          "tokenizer.json: added token '",
          text,
          "' has ",
          key,
          " set, which GGUF cannot express");
  }
}

TokenTable collect_tokens(const Json& tokenizer, int64_t vocab_size) {
  TokenTable table(vocab_size);
  const Json& vocab = required(required(tokenizer, "model"), "vocab");
  check(vocab.is_object(), "tokenizer.json: key 'vocab' is no object");
  for (const auto& [text, id] : vocab.items()) {
    table.set(text, id, kNormalToken);
  }
  const bool has_normalizer = find_key(tokenizer, "normalizer") != nullptr;
  const Json* added = find_key(tokenizer, "added_tokens");
  for (const Json& token : added == nullptr ? Json::array() : *added) {
    const auto text = get_or(token, "content", std::string());
    check_added_token(token, text, has_normalizer);
    const bool is_special = get_or(token, "special", false);
    table.set(text, required(token, "id"), is_special ? kControlToken : kUserDefinedToken);
  }
  table.fill_gaps();
  return table;
}

/// "a b" for each merge, given so or as a pair.
std::vector<std::string> collect_merges(const Json& model) {
  std::vector<std::string> merges;
  for (const Json& merge : required(model, "merges")) {
    const bool is_pair =
        merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    check(is_pair || merge.is_string(),
          "tokenizer.json: merge ",
          merges.size(),
          " is not two tokens");
    merges.push_back(is_pair ? merge[0].get<std::string>() + " " + merge[1].get<std::string>()
                             : merge.get<std::string>());
    check(std::count(merges.back().begin(), merges.back().end(), ' ') == 1,
          "tokenizer.json: merge ",
          merges.size() - 1,
          " has a space inside a token, which GGUF cannot express");
  }
  return merges;
}

/// What a template puts around a text.
struct Surroundings {
  std::optional<std::string> before, after;
};

/// Reads a TemplateProcessing's single: the text, with at most one token on each side.
Surroundings read_template(const Json& processor) {
  Surroundings around;
  bool seen_text = false;
  for (const Json& step : required(processor, "single")) {
    if (find_key(step, "Sequence") != nullptr) {
      seen_text = true;
      continue;
    }
    auto& side = seen_text ? around.after : around.before;
    check(!side,
          "tokenizer.json: a template with two tokens on one side of the text cannot be written as "
          "GGUF");
    side = get_or(required(step, "SpecialToken"), "id", std::string());
  }
  return around;
}

Surroundings read_post_processor(const Json& processor) {
  if (processor.is_null()) {
    return {};
  }
  const auto type = get_or(processor, "type", std::string());
  if (type == "ByteLevel") {
    return {};  // concerns offsets alone
  }
  if (type == "TemplateProcessing") {
    return read_template(processor);
  }
  check(type == "Sequence", "tokenizer.json: post_processor ", type, " cannot be written as GGUF");
  Surroundings around;
  for (const Json& inner : required(processor, "processors")) {
    Surroundings found = read_post_processor(inner);
    if (found.before || found.after) {
      around = std::move(found);
    }
  }
  return around;
}

/// The id of the token that tokenizer_config names under `key`, as text or as {"content": text}.
std::optional<int64_t> named_token(const Json& tokenizer_config,
                                   const char* key,
                                   const TokenTable& tokens) {
  const Json* value = find_key(tokenizer_config, key);
  if (value == nullptr) {
    return std::nullopt;
  }
  return tokens.find(value->is_string() ? value->get<std::string>()
                                        : get_or(*value, "content", std::string()));
}

void add_id(const char* key, std::optional<int64_t> id, GgufHeader& header) {
  if (id) {
    header.add_uint32(key, *id);
  }
}

void write_special_tokens(const TokenizerParts& parts,
                          const TokenTable& tokens,
                          GgufHeader& header) {
  const Json* processor = find_key(parts.tokenizer_json, "post_processor");
  const Surroundings around = read_post_processor(processor == nullptr ? Json() : *processor);
  const auto add = [&](const char* key,
                       const char* name,
                       const std::optional<std::string>& in_template,
                       std::optional<int64_t> fallback) {
    auto id =
        in_template ? tokens.find(*in_template) : named_token(parts.tokenizer_config, name, tokens);
    add_id(key, id ? id : fallback, header);
  };
  add("tokenizer.ggml.bos_token_id", "bos_token", around.before, parts.bos_token_id);
  add("tokenizer.ggml.eos_token_id", "eos_token", around.after, parts.eos_token_id);
  add("tokenizer.ggml.unknown_token_id", "unk_token", std::nullopt, std::nullopt);
  add("tokenizer.ggml.padding_token_id", "pad_token", std::nullopt, std::nullopt);
  header.add_bool("tokenizer.ggml.add_bos_token", around.before.has_value());
  header.add_bool("tokenizer.ggml.add_eos_token", around.after.has_value());
}

}  // namespace

void write_gguf_tokenizer(const TokenizerParts& parts, int64_t vocab_size, GgufHeader& header) {
  if (parts.tokenizer_json.is_null()) {
    header.add_string("tokenizer.ggml.model", "none");
    add_id("tokenizer.ggml.bos_token_id", parts.bos_token_id, header);
    add_id("tokenizer.ggml.eos_token_id", parts.eos_token_id, header);
    return;
  }
  const Json& model = required(parts.tokenizer_json, "model");
  check_model(model);
  const TokenizerFamily& family = match_tokenizer_family(parts.tokenizer_json);
  const TokenTable tokens = collect_tokens(parts.tokenizer_json, vocab_size);
  header.add_string("tokenizer.ggml.model", "gpt2");
  header.add_string("tokenizer.ggml.pre", family.names.front());
  header.add_strings("tokenizer.ggml.tokens", tokens.texts());
  header.add_int32s("tokenizer.ggml.token_type", tokens.types());
  header.add_strings("tokenizer.ggml.merges", collect_merges(model));
  write_special_tokens(parts, tokens, header);
  if (parts.chat_template) {
    header.add_string("tokenizer.chat_template", *parts.chat_template);
  }
}

}  // namespace ssa
