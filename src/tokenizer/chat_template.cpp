#include "tokenizer/chat_template.h"

#include "base/error.h"
#include "base/text.h"
#include "tokenizer/jinja_evaluator.h"
#include "tokenizer/jinja_parser.h"

namespace ssa {
namespace {

JinjaBlock parse(const std::string& source) {
  check(is_valid_utf8(source), "chat template: the source is no UTF-8");
  return parse_jinja(source);
}

/// The names a template finds, as transformers gives them: tools and documents are none where there
/// are none, tokens that the model lacks are undefined.
JinjaVariables template_variables(const Json& messages, const ChatTemplateOptions& options) {
  JinjaScope names;
  names.set("tools", JinjaValue());
  names.set("documents", JinjaValue());
  names.set("messages", JinjaValue::from_json(messages, true));
  names.set("add_generation_prompt", JinjaValue::boolean(options.add_generation_prompt));
  for (const auto& [name, token] :
       {std::pair("bos_token", options.bos_token), std::pair("eos_token", options.eos_token)}) {
    if (!token.empty()) {
      names.set(name, JinjaValue::literal(replace_invalid_utf8(token)));
    }
  }
  check(options.variables.is_object(), "the variables are no JSON object");
  for (const auto& [name, value] : options.variables.items()) {
    names.set(name, JinjaValue::from_json(value, false));
  }
  return std::move(names.variables);
}

JinjaVariables checked_variables(const Json& messages, const ChatTemplateOptions& options) {
  try {
    return template_variables(messages, options);
  } catch (const Error& error) {
    fail("chat template: ", error.what());
  }
}

}  // namespace

struct ChatTemplate::Impl {
  JinjaBlock block;
};

ChatTemplate::ChatTemplate(const std::string& source)
    : impl_(std::make_unique<const Impl>(Impl{parse(source)})) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::vector<TextSpan> ChatTemplate::render(const Json& messages,
                                           const ChatTemplateOptions& options) const {
  JinjaEvaluator evaluator(checked_variables(messages, options));
  try {
    return evaluator.render(impl_->block).spans();
  } catch (const Error& error) {
    fail("chat template line ", evaluator.line(), ": ", error.what());
  }
}

std::string joined_text(const std::vector<TextSpan>& spans) {
  std::string text;
  for (const TextSpan& span : spans) {
    text += span.text;
  }
  return text;
}

}  // namespace ssa
