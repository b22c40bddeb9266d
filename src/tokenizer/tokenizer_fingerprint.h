// What tells whether two tokenizers make the same ids of a text.
#pragma once

#include <cstdint>
#include <string>

#include "tokenizer/tokenizer.h"

namespace ssa {

/// Tokens that text is made of: without <gist>, <Gist>, <MGist> and <link1> ... at the end of the
/// vocabulary, which text never holds.
int64_t n_text_tokens(const Tokenizer& tokenizer);

/// 16 hexadecimal digits over the bytes of those tokens, and over the ids of a text that is hard to
/// split. So a model keeps its fingerprint when it is given gists, or is read from another format.
std::string tokenizer_fingerprint(const Tokenizer& tokenizer);

}  // namespace ssa
