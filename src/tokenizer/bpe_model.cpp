#include "tokenizer/bpe_model.h"

#include <limits>

#include "base/error.h"
#include "base/text.h"
#include "tokenizer/byte_alphabet.h"

namespace ssa {
namespace {

// Ids index tables, so a file must not name a huge one; vocabularies leave small gaps at most.
constexpr int64_t kMaxUnusedIds = 1 << 20;

const Json& required(const Json& model, const char* key) {
  const Json* value = find_key(model, key);
  check(value != nullptr, "key '", key, "' is missing");
  return *value;
}

void check_supported(const Json& model) {
  check(model.is_object(), "expected an object");
  const std::string type = get_or<std::string>(model, "type", "BPE");
  check(type == "BPE", "type '", type, "' is not supported (known: BPE)");
  check(get_or<double>(model, "dropout", 0) == 0, "dropout is not supported");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string affix = get_or<std::string>(model, key, "");
    check(affix.empty(), key, " '", affix, "' is not supported");
  }
}

std::string merge_part(const Json& value) {
  check(value.is_string() && is_valid_utf8(value.get_ref<const std::string&>()),
        "merges: expected UTF-8 text, got ",
        dump_json(value).substr(0, 80));
  return value.get<std::string>();
}

}  // namespace

BpeModel::BpeModel(const Json& model) {
  check_supported(model);
  read_vocabulary(required(model, "vocab"));
  read_unknown(model);
  read_merges(required(model, "merges"));
  ignore_merges_ = get_or<bool>(model, "ignore_merges", false);
  find_whole_tokens();
}

void BpeModel::read_vocabulary(const Json& vocab) {
  check(vocab.is_object(), "vocab: expected an object");
  bytes_to_id_ = TokenTable(vocab.size());
  for (const auto& [token, id] : vocab.get_ref<const Json::object_t&>()) {
    check(id.is_number_integer(),
          "vocab: id of '",
          token,
          "' is ",
          dump_json(id),
          ", expected an integer");
    check(is_valid_utf8(token), "vocab: the token of id ", dump_json(id), " is not UTF-8");
    add_token(token, id.get<int64_t>(), static_cast<int64_t>(vocab.size()));
  }
}

void BpeModel::add_token(const std::string& token, int64_t id, int64_t n_all) {
  check(id >= 0 && id < n_all + kMaxUnusedIds && id <= std::numeric_limits<int32_t>::max(),
        "vocab: id ",
        id,
        " of '",
        token,
        "' is out of range for ",
        n_all,
        " tokens");
  const auto index = static_cast<size_t>(id);
  if (index >= tokens_.size()) {
    tokens_.resize(index + 1);
  }
  tokens_[index] = token;
  ++n_tokens_;
  if (const auto bytes = token_to_bytes(token)) {
    bytes_to_id_.insert(*bytes, static_cast<int32_t>(id));
  } else {
    other_tokens_[token] = static_cast<int32_t>(id);
  }
}

int32_t BpeModel::id_of(const std::string& token) const {
  if (const auto bytes = token_to_bytes(token)) {
    return bytes_to_id_.find(*bytes);
  }
  const auto it = other_tokens_.find(token);
  return it == other_tokens_.end() ? -1 : it->second;
}

std::optional<int64_t> BpeModel::token_to_id(std::string_view token) const {
  const int32_t id = id_of(std::string(token));
  return id < 0 ? std::nullopt : std::optional<int64_t>(id);
}

void BpeModel::read_unknown(const Json& model) {
  bool has_all_bytes = true;
  for (int byte = 0; byte < 256; ++byte) {
    const char letter = static_cast<char>(byte);
    has_all_bytes = has_all_bytes && bytes_to_id_.find({&letter, 1}) >= 0;
  }
  if (has_all_bytes) {
    return;  // no text holds anything unknown
  }
  check(!get_or<bool>(model, "byte_fallback", false),
        "byte_fallback is not supported unless the vocabulary has all 256 bytes");
  const std::string token = get_or<std::string>(model, "unk_token", "");
  if (!token.empty()) {
    check(is_valid_utf8(token), "unk_token is not UTF-8");
    unknown_ = id_of(token);
    check(*unknown_ >= 0, "unk_token '", token, "' is not in vocab");
    fuse_unknown_ = get_or<bool>(model, "fuse_unk", false);
  }
}

void BpeModel::read_merges(const Json& merges) {
  check(merges.is_array(), "merges: expected a list");
  pairs_ = PairTable(merges.size());
  uint32_t rank = 0;
  for (const Json& merge : merges) {
    if (merge.is_array()) {  // ["a", "b"]
      check(merge.size() == 2, "merges: ", dump_json(merge).substr(0, 80), " is not a pair");
      add_merge(merge_part(merge[0]), merge_part(merge[1]), rank++);
      continue;
    }
    const std::string line = merge_part(merge);  // "a b"
    if (line.starts_with("#version")) {
      continue;  // the first line of a merges.txt
    }
    const size_t space = line.find(' ');
    check(space != std::string::npos && line.find(' ', space + 1) == std::string::npos,
          "merges: '",
          line.substr(0, 80),
          "' is not two tokens with a space between");
    add_merge(line.substr(0, space), line.substr(space + 1), rank++);
  }
}

void BpeModel::add_merge(const std::string& left, const std::string& right, uint32_t rank) {
  const int32_t left_id = id_of(left);
  const int32_t right_id = id_of(right);
  const int32_t joined_id = id_of(left + right);
  for (const auto& [token, id] :
       {std::pair(left, left_id), std::pair(right, right_id), std::pair(left + right, joined_id)}) {
    check(id >= 0, "merges: token '", token.substr(0, 80), "' is not in vocab");
  }
  pairs_.insert(left_id, right_id, {rank, joined_id});
}

/// With ignore_merges every token is whole. Without, nearly every one is: finding out here, once,
/// spares encode_word the merging of most words.
void BpeModel::find_whole_tokens() {
  is_whole_.assign(tokens_.size(), ignore_merges_);
  if (ignore_merges_) {
    return;
  }
  BpeScratch scratch;
  for (size_t id = 0; id < tokens_.size(); ++id) {
    const auto bytes = tokens_[id] ? token_to_bytes(*tokens_[id]) : std::nullopt;
    if (bytes && !bytes->empty()) {
      split_into_bytes(*bytes, scratch.symbols);
      merge_symbols(pairs_, scratch.symbols, scratch.merge);
      is_whole_[id] = scratch.symbols.size() == 1 && scratch.symbols[0] == static_cast<int32_t>(id);
    }
  }
}

void BpeModel::split_into_bytes(std::string_view bytes, std::vector<int32_t>& symbols) const {
  symbols.clear();
  bool follows_unknown = false;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int32_t id = bytes_to_id_.find(bytes.substr(i, 1));
    if (id >= 0) {
      symbols.push_back(id);
    } else if (unknown_ && !(follows_unknown && fuse_unknown_)) {
      symbols.push_back(*unknown_);
    }
    follows_unknown = id < 0;
  }
}

void BpeModel::encode_word(std::string_view bytes,
                           BpeScratch& scratch,
                           std::vector<int64_t>& ids) const {
  const int32_t id = bytes_to_id_.find(bytes);
  if (id >= 0 && is_whole_[static_cast<size_t>(id)]) {
    ids.push_back(id);
    return;
  }
  split_into_bytes(bytes, scratch.symbols);
  merge_symbols(pairs_, scratch.symbols, scratch.merge);
  ids.insert(ids.end(), scratch.symbols.begin(), scratch.symbols.end());
}

}  // namespace ssa
