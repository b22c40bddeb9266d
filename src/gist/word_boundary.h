// Where words begin, as far as gists care: a gist may go in front of a token whose own text begins
// a word.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace ssa {

/// True if a token with this text begins a word: the text is empty, or begins with space, tab, LF,
/// CR or one of . , ; : ! ? - (em dash) ( ) [ ] { } " ' No other white space or sign counts.
/// `token_text` is that one token decoded alone as UTF-8, broken bytes replaced by U+FFFD, which is
/// none of these: so a token that is part of a character never begins a word.
bool begins_word(std::string_view token_text);

/// begins_word() for every id of a vocabulary: [n_ids].
using WordBoundaries = std::vector<bool>;

/// Asks `token_text` once for each id in [0, n_ids).
WordBoundaries find_word_boundaries(int64_t n_ids,
                                    const std::function<std::string(int64_t id)>& token_text);

}  // namespace ssa
