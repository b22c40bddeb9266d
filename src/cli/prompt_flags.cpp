#include "cli/prompt_flags.h"

#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "tokenizer/chat_template.h"

namespace ssa {
namespace {

/// A token of tokenizer_config.json: a string, or an object with "content".
std::string token_text(const Json& config, const char* key) {
  const Json* token = find_key(config, key);
  if (token == nullptr) {
    return {};
  }
  return token->is_object() ? get_or<std::string>(*token, "content", "")
                            : get_or<std::string>(config, key, "");
}

}  // namespace

void add_prompt_flags(CLI::App& app, PromptFlags& flags) {
  auto* text = app.add_option("-p,--prompt", flags.text, "The prompt (default: standard input)")
                   ->check(not_empty("-p: the prompt is empty"));
  auto* file = app.add_option("-f,--file", flags.file, "File with the prompt; - is standard input")
                   ->check(not_empty("-f: the file's name is empty"));
  exclude_each_other({text, file});
  auto* chat =
      app.add_flag("--chat", flags.chat, "The prompt is a message: apply the chat template");
  app.add_option("--system", flags.system, "System message, with --chat")->needs(chat);
  app.add_flag("--parse-special",
               flags.parse_special,
               "Read special tokens such as <|im_end|> in the prompt as tokens, not as letters");
}

std::string read_text(const std::string& path) {
  std::string bytes = read_file(path);
  if (is_valid_utf8(bytes)) {
    return bytes;
  }
  log_warning(path == "-" ? "standard input" : path,
              " is not all UTF-8: broken bytes become U+FFFD");
  return replace_invalid_utf8(bytes);
}

std::string read_prompt(const PromptFlags& flags) {
  if (!flags.text.empty()) {
    return replace_invalid_utf8(flags.text);
  }
  if (flags.file.empty() && isatty(STDIN_FILENO) == 1) {
    throw UsageError("no prompt: give one with -p TEXT or -f FILE, or on standard input");
  }
  return read_text(flags.file.empty() ? "-" : flags.file);
}

TemplateTokens template_tokens(const Checkpoint& checkpoint) {
  const Json config = checkpoint.tokenizer_config();
  return {token_text(config, "bos_token"), token_text(config, "eos_token")};
}

std::vector<TextSpan> render_chat(const Checkpoint& checkpoint, const Json& messages) {
  const std::optional<std::string> source = checkpoint.chat_template();
  check(source.has_value(),
        "this checkpoint has no chat template; leave out --chat to continue raw text");
  const TemplateTokens tokens = template_tokens(checkpoint);
  ChatTemplateOptions options;
  options.bos_token = tokens.bos;
  options.eos_token = tokens.eos;
  return ChatTemplate(*source).render(messages, options);
}

}  // namespace ssa
