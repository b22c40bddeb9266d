// The "added_tokens" part of tokenizer.json: tokens that are cut out of the text before anything
// else sees it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/json.h"
#include "tokenizer/bpe_model.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/split_regex.h"
#include "tokenizer/text_trie.h"

namespace ssa {

struct AddedToken {
  int64_t id;
  std::string content;
  std::string matched;  // what text and decoder hold: the content, normalised if `normalized`
  bool special;
  bool normalized;   // looked for in normalised text
  bool single_word;  // not within a word
  bool lstrip;       // takes the white space before it
  bool rstrip;       // takes the white space behind it
};

/// A piece of text: one token, or plain text.
struct AddedPiece {
  TextRange range;
  const AddedToken* token;  // nullptr: plain
};

/// Immutable, safe from many threads; pieces point into it.
class AddedTokens {
 public:
  /// `list`: tokenizer.json's added_tokens, may be null. Ids follow from the vocabulary and the
  /// order, as in the Hugging Face library; the file's are not looked at. Throws Error naming a
  /// broken entry.
  AddedTokens(const Json* list, const BpeModel& model, const Normalizer& normalizer);

  /// Whether a special token may be recognised at a place.
  using AllowSpecial = std::function<bool(const TextRange& range)>;

  /// Cuts out the tokens that are looked for in normalised text, or the others.
  std::vector<AddedPiece> split(std::string_view text,
                                bool normalized,
                                const AllowSpecial& allow_special) const;

  std::optional<int64_t> token_to_id(std::string_view content) const;
  const std::map<int64_t, AddedToken>& by_id() const { return by_id_; }
  /// Some special token has this content.
  bool is_special_content(const std::string& content) const { return specials_.contains(content); }

 private:
  void add(AddedToken token, const BpeModel& model, int64_t& next_id);
  void build_tries();
  bool stands_alone(std::string_view text, const TextRange& range) const;
  bool is_word_character(std::string_view character) const;

  std::map<int64_t, AddedToken> by_id_;
  std::unordered_map<std::string, int64_t> ids_;  // by content
  std::unordered_set<std::string> specials_;      // contents
  std::vector<const AddedToken*> tokens_;         // the tries' values index this
  TextTrie plain_trie_, normalized_trie_;
  std::optional<SplitRegex> word_character_;  // if a token wants it
};

}  // namespace ssa
