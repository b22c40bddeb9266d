// Where a prompt comes from: a flag, a file, or standard input.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "cli/command.h"
#include "tokenizer/text_span.h"

namespace ssa {

struct PromptFlags {
  std::string text;    // -p
  std::string file;    // -f
  bool chat = false;   // the text is a user's message, put through the chat template
  std::string system;  // --system: with --chat
  bool parse_special = false;
};

/// Adds -p, -f, --chat, --system and --parse-special. An empty -p or -f is a UsageError.
void add_prompt_flags(CLI::App& app, PromptFlags& flags);

/// The text of -p, of -f (broken UTF-8 mended, with a warning), or of standard input. Throws
/// UsageError if there is none.
std::string read_prompt(const PromptFlags& flags);

/// A file's text; broken UTF-8 becomes U+FFFD, with a warning.
std::string read_text(const std::string& path);

/// BOS and EOS as a chat template wants them: the tokens' text, "" where there is none.
struct TemplateTokens {
  std::string bos, eos;
};
TemplateTokens template_tokens(const Checkpoint& checkpoint);

/// Messages through the checkpoint's chat template. Throws Error if it has none.
std::vector<TextSpan> render_chat(const Checkpoint& checkpoint, const Json& messages);

}  // namespace ssa
