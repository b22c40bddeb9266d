// ssa generate: continue a prompt, or answer a message.
#include <string>

#include "base/error.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/generation_session.h"
#include "cli/prompt_flags.h"

namespace ssa {
namespace {

struct GenerateFlags {
  GenerationFlags generation;
  PromptFlags prompt;
  std::string suffix;
};

std::vector<int64_t> encode_prompt(const GenerationSession& session,
                                   const PromptFlags& flags,
                                   const std::string& text) {
  if (!flags.chat) {
    return session.tokenizer().encode(text,
                                      {.add_special = true, .parse_special = flags.parse_special});
  }
  Json messages = Json::array();
  if (!flags.system.empty()) {
    messages.push_back({{"role", "system"}, {"content", replace_invalid_utf8(flags.system)}});
  }
  messages.push_back({{"role", "user"}, {"content", text}});
  std::vector<TextSpan> spans = render_chat(session.checkpoint(), messages);
  for (TextSpan& span : spans) {
    span.is_input = span.is_input && !flags.parse_special;
  }
  return session.tokenizer().encode(spans, {.add_special = false, .parse_special = true});
}

/// --suffix TEXT or @FILE.
std::vector<int64_t> encode_suffix(const GenerationSession& session, const GenerateFlags& flags) {
  const std::string text = flags.suffix.starts_with("@") ? read_text(flags.suffix.substr(1))
                                                         : replace_invalid_utf8(flags.suffix);
  return session.tokenizer().encode(
      text, {.add_special = false, .parse_special = flags.prompt.parse_special});
}

void run_generate(const GenerateFlags& flags) {
  const std::string text = read_prompt(flags.prompt);
  GenerationSession session(flags.generation);
  const PromptParts parts{{encode_prompt(session, flags.prompt, text)},
                          encode_suffix(session, flags)};
  check(parts.n_tokens() > 0, "the prompt is empty: there is nothing to continue");
  session.check_fits(parts.n_tokens());
  session.load();
  session.answer(parts);
}

}  // namespace

void add_generate_command(CLI::App& root) {
  CLI::App* app =
      root.add_subcommand("generate", "Continue a prompt, or answer a message (--chat)");
  const auto flags = std::make_shared<GenerateFlags>();
  add_model_flags(*app, flags->generation.model);
  add_prompt_flags(*app, flags->prompt);
  app->add_option(
      "--suffix", flags->suffix, "TEXT or @FILE behind the prompt that stays raw: the question");
  add_generation_flags(*app, flags->generation);
  app->callback([flags] { run_generate(*flags); });
}

}  // namespace ssa
