// Chat templates: the part of Jinja that published templates use.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "tokenizer/text_span.h"

namespace ssa {

struct ChatTemplateOptions {
  bool add_generation_prompt = true;
  std::string bos_token;
  std::string eos_token;
  Json variables =
      Json::object();  // further names the template may read: tools, documents, date_string, ...
};

/// A parsed template. Immutable; render() is safe from many threads.
class ChatTemplate {
 public:
  /// Throws Error with the line and the construct that is not supported.
  explicit ChatTemplate(const std::string& source);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// `messages`: a list of {"role", "content", ...}. The spans joined are exactly what Python's
  /// jinja2 renders (with trim_blocks and lstrip_blocks, as transformers sets them); text that
  /// stems from `messages` is marked is_input. Throws Error for what the template raises
  /// (raise_exception) and for operations it cannot do, with the line.
  std::vector<TextSpan> render(const Json& messages, const ChatTemplateOptions& options) const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

/// The spans' text, joined.
std::string joined_text(const std::vector<TextSpan>& spans);

}  // namespace ssa
