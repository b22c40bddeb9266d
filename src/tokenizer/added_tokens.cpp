#include "tokenizer/added_tokens.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace ssa {
namespace {

constexpr std::string_view kWordCharacter = R"([\w\x{200C}\x{200D}])";  // as Rust's \w has them

bool is_white_space(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

/// Where the last character before `at` > 0 begins.
size_t previous_character(std::string_view text, size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

size_t skip_spaces(std::string_view text, size_t at) {
  for (size_t next = at; next < text.size(); at = next) {
    if (!is_white_space(next_code_point(text, next))) {
      break;
    }
  }
  return at;
}

/// Back over white space, but not over `limit`.
size_t skip_spaces_back(std::string_view text, size_t at, size_t limit) {
  while (at > limit) {
    const size_t before = previous_character(text, at);
    size_t i = before;
    if (!is_white_space(next_code_point(text, i))) {
      break;
    }
    at = before;
  }
  return at;
}

AddedToken read_token(const Json& json, const Normalizer& normalizer) {
  AddedToken token;
  token.id = -1;
  token.content = get_or<std::string>(json, "content", "");
  check(is_valid_utf8(token.content), "a token's content is not UTF-8");
  token.special = get_or<bool>(json, "special", false);
  token.normalized = get_or<bool>(json, "normalized", !token.special);
  token.single_word = get_or<bool>(json, "single_word", false);
  token.lstrip = get_or<bool>(json, "lstrip", false);
  token.rstrip = get_or<bool>(json, "rstrip", false);
  token.matched = token.normalized && !normalizer.is_identity()
                      ? normalizer.apply(token.content).text()
                      : token.content;
  return token;
}

}  // namespace

AddedTokens::AddedTokens(const Json* list, const BpeModel& model, const Normalizer& normalizer) {
  if (list == nullptr) {
    return;
  }
  check(list->is_array(), "expected a list");
  int64_t next_id = model.n_tokens();
  for (const Json& json : *list) {
    check(json.is_object(), "expected objects");
    AddedToken token = read_token(json, normalizer);
    if (!token.content.empty()) {
      add(std::move(token), model, next_id);
    }
  }
  build_tries();
}

void AddedTokens::add(AddedToken token, const BpeModel& model, int64_t& next_id) {
  std::optional<int64_t> id = token_to_id(token.content);
  if (!id) {
    id = model.token_to_id(token.content);
  }
  token.id = id ? *id : next_id++;
  ids_[token.content] = token.id;
  if (token.special) {
    specials_.insert(token.content);
  }
  by_id_[token.id] = std::move(token);
}

void AddedTokens::build_tries() {
  for (const auto& [id, token] : by_id_) {
    TextTrie& trie = token.normalized ? normalized_trie_ : plain_trie_;
    check(trie.insert(token.matched, tokens_.size()),
          "'",
          token.content,
          "' is, once normalised, the same as another token");
    tokens_.push_back(&token);
    if (token.single_word && !word_character_) {
      word_character_ = SplitRegex::from_pattern(kWordCharacter);
    }
  }
}

std::optional<int64_t> AddedTokens::token_to_id(std::string_view content) const {
  const auto it = ids_.find(std::string(content));
  return it == ids_.end() ? std::nullopt : std::optional(it->second);
}

bool AddedTokens::is_word_character(std::string_view character) const {
  RegexMatcher matcher(*word_character_);
  matcher.start(character);
  return matcher.next().has_value();
}

bool AddedTokens::stands_alone(std::string_view text, const TextRange& range) const {
  if (range.begin > 0) {
    const size_t before = previous_character(text, range.begin);
    if (is_word_character(text.substr(before, range.begin - before))) {
      return false;
    }
  }
  size_t behind = range.end;
  return range.end == text.size() ||
         (next_code_point(text, behind),
          !is_word_character(text.substr(range.end, behind - range.end)));
}

std::vector<AddedPiece> AddedTokens::split(std::string_view text,
                                           bool normalized,
                                           const AllowSpecial& allow_special) const {
  const TextTrie& trie = normalized ? normalized_trie_ : plain_trie_;
  std::vector<AddedPiece> pieces;
  size_t done = 0;  // end of the last piece
  size_t from = 0;  // a match that is turned down still hides those that overlap it
  while (const std::optional<TextTrie::Match> match = trie.find(text, from)) {
    from = match->end;
    const AddedToken& token = *tokens_[match->value];
    TextRange range = {match->begin, match->end};
    if (is_special_content(token.content) && !allow_special(range)) {
      continue;
    }
    if (token.single_word && !stands_alone(text, range)) {
      continue;
    }
    if (token.lstrip) {
      range.begin = skip_spaces_back(text, range.begin, done);
    }
    if (token.rstrip) {
      range.end = skip_spaces(text, range.end);
    }
    if (done < range.begin) {
      pieces.push_back({{done, range.begin}, nullptr});
    }
    pieces.push_back({range, &token});
    done = range.end;
  }
  if (done < text.size()) {
    pieces.push_back({{done, text.size()}, nullptr});
  }
  return pieces;
}

}  // namespace ssa
