// Text that remembers who wrote it.
#pragma once

#include <string>

namespace ssa {

/// A piece of a rendered prompt. Special tokens ("<|im_end|>") are honoured in text the chat
/// template wrote, and are plain letters in text that came from the user.
struct TextSpan {
  std::string text;
  bool is_input = false;  // from a message, not from the template
};

}  // namespace ssa
