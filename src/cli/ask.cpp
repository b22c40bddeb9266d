// ssa ask: questions about documents, which are read once.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/text.h"
#include "cli/chat_frame.h"
#include "cli/command.h"
#include "cli/generation_session.h"
#include "cli/output_files.h"
#include "cli/prompt_flags.h"

namespace ssa {
namespace {

constexpr const char* kFetchedModel = ".models/SmolLM2-135M-Instruct.Q4_1.gguf";  // by `make model`

struct AskFlags {
  GenerationFlags generation;
  std::vector<std::string> documents;
  std::string question, system, trace;
  int64_t passages = 0;
  bool show = false, compare_full = false;
};

/// A model without chat template gets what `ssa data build --kind qa` puts behind a question.
ChatFrame make_frame(const Checkpoint& checkpoint, const std::string& system) {
  return checkpoint.chat_template() ? make_chat_frame(checkpoint, system)
                                    : ChatFrame{{}, {{"\nAnswer:", false}}};
}

std::vector<std::string> read_documents(const AskFlags& flags) {
  std::vector<std::string> texts;
  for (const std::string& document : flags.documents) {
    std::string text = read_text(document);
    text.erase(text.find_last_not_of(" \t\r\n") + 1);  // as in training: no white space at its end
    texts.push_back(text + "\n\n");
  }
  return texts;
}

/// Header and documents, each a piece of its own.
std::vector<std::vector<int64_t>> encode_pieces(const GenerationSession& session,
                                                const std::vector<std::string>& documents,
                                                const ChatFrame& frame) {
  const bool chat = !frame.header.empty();
  const Tokenizer& tokenizer = session.tokenizer();
  std::vector<std::vector<int64_t>> pieces;
  pieces.push_back(chat ? tokenizer.encode(frame.header, {.add_special = false})
                        : tokenizer.encode("", {.add_special = true}));
  for (const std::string& text : documents) {
    pieces.push_back(tokenizer.encode(text, {.add_special = false, .parse_special = false}));
  }
  std::erase_if(pieces, [](const std::vector<int64_t>& piece) { return piece.empty(); });
  return pieces;
}

std::vector<int64_t> encode_question(const GenerationSession& session,
                                     const std::string& question,
                                     const ChatFrame& frame) {
  std::vector<TextSpan> spans = {{replace_invalid_utf8(question), true}};
  spans.insert(spans.end(), frame.ending.begin(), frame.ending.end());
  return session.tokenizer().encode(spans, {.add_special = false});
}

/// https://no-color.org: any value but an empty one.
bool wants_colour() {
  const char* no_colour = std::getenv("NO_COLOR");
  return isatty(STDERR_FILENO) == 1 && (no_colour == nullptr || *no_colour == '\0');
}

/// The same questions under full attention by the untouched base, whose weights are there already:
/// an adapter is switched off meanwhile.
class FullComparison {
 public:
  FullComparison(const AskFlags& flags, const LoadedModel& loaded)
      : flags_(full_flags(flags.generation)),
        adapter_(loaded.adapter ? loaded.adapter->power() : nullptr),
        session_(flags_, {loaded.base, loaded.model, loaded.base, nullptr}, false) {}

  void answer(const PromptParts& parts) {
    const SwitchedOff base(adapter_);
    std::printf("full attention%s:\n", adapter_ ? ", without the adapter" : "");
    session_.answer(parts);
  }

 private:
  static GenerationFlags full_flags(GenerationFlags flags) {
    AttentionFlags full;
    full.mode = "full";
    full.kv_dtype = flags.attention.kv_dtype;
    full.kernels = flags.attention.kernels;
    flags.attention = full;
    flags.prefix_file.clear();
    flags.close_chunks = false;
    return flags;
  }

  const GenerationFlags flags_;
  std::shared_ptr<LowRankSwitch> adapter_;  // null: none
  GenerationSession session_;
};

void run_ask(const AskFlags& flags) {
  check_writable(flags.trace);
  const std::vector<std::string> documents = read_documents(flags);
  GenerationSession session(flags.generation,
                            flags.show || flags.passages > 0 || !flags.trace.empty());
  const ChatFrame frame = make_frame(session.checkpoint(), replace_invalid_utf8(flags.system));
  const auto pieces = encode_pieces(session, documents, frame);
  const auto parts_of = [&](const std::string& question) {
    return PromptParts{pieces, encode_question(session, question, frame)};
  };
  session.check_fits(parts_of(flags.question).n_tokens());
  session.load();
  std::optional<FullComparison> full;
  if (flags.compare_full) {
    full.emplace(flags, session.loaded());
  }
  const auto answer = [&](const std::string& question) {
    const PromptParts parts = parts_of(question);
    session.answer(parts);
    const std::optional<ShownChunks> shown = session.shown_chunks();
    if (flags.show && shown) {
      const std::string text =
          show_unfolding(session.record(), *shown, session.tokenizer(), wants_colour());
      std::fputs(text.c_str(), stderr);
    }
    if (flags.passages > 0 && shown) {
      const std::string text =
          list_passages(session.record(), *shown, session.tokenizer(), flags.passages);
      std::fputs(text.c_str(), stderr);
    }
    if (!flags.trace.empty() && shown) {
      write_file(flags.trace, trace_unfolding(session.record(), *shown, session.tokenizer()));
    }
    if (full) {
      full->answer(parts);
    }
  };
  if (!flags.question.empty()) {
    answer(flags.question);
    return;
  }
  const bool prompt = isatty(STDIN_FILENO) == 1;
  std::string question;
  while (prompt && std::fputs("> ", stderr), std::getline(std::cin, question)) {
    if (question.empty()) {
      continue;
    }
    try {
      answer(question);
    } catch (const Interrupted&) {
      if (!prompt) {
        throw;
      }
    }
  }
}

void choose_model(std::string& model) {
  if (model.empty()) {
    check(std::filesystem::exists(kFetchedModel),
          "no model: name one with -m, or fetch one with 'make model'");
    model = kFetchedModel;
  }
}

}  // namespace

void add_ask_command(CLI::App& root) {
  CLI::App* app =
      root.add_subcommand("ask", "Ask about documents; without -q, questions line by line");
  const auto flags = std::make_shared<AskFlags>();
  flags->generation.predict = 256;
  app->add_option("documents", flags->documents, "Text files")->required()->type_name("DOCUMENT");
  app->add_option(
      "-m,--model",
      flags->generation.model.model,
      std::string("Hugging Face directory or .gguf file (default: ") + kFetchedModel + ")");
  add_run_flags(*app, flags->generation.model);
  app->add_option(
      "-q,--question", flags->question, "The question (default: lines of standard input)");
  app->add_option("--system", flags->system, "System message");
  app->add_flag(
      "--show",
      flags->show,
      "Show which chunks or blocks were opened on standard error: in colour on a terminal, "
      "unless NO_COLOR is set, else as [12x text]");
  app->add_option("--passages",
                  flags->passages,
                  "List so many passages that were opened more than what surrounds them")
      ->check(CLI::Range(int64_t{0}, int64_t{1000}));
  app->add_flag(
      "--compare-full",
      flags->compare_full,
      "Answer each question a second time with full attention, without the adapter; a line "
      "'full attention:' stands between the answers");
  app->add_option("--trace", flags->trace, "JSON file with the opened chunks or blocks");
  add_generation_flags(*app, flags->generation);
  app->callback([flags] {
    choose_model(flags->generation.model.model);
    run_ask(*flags);
  });
}

}  // namespace ssa
