// What a prompt has around its fields: documents, a question, an answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace ssa {

struct TextFrame {
  std::string before, behind;
};

/// Of a format in which {} is the field's place. Throws UsageError if it is not there exactly once.
TextFrame parse_text_frame(const std::string& format);

/// The framed text, tokenised in one go. Special tokens are honoured in the frame, and are letters
/// in the text. Throws Error if the text is not UTF-8.
std::vector<int64_t> encode_framed(const Tokenizer& tokenizer,
                                   const TextFrame& frame,
                                   const std::string& text);

}  // namespace ssa
