// The program `ssa`. Standard output holds results alone; all else goes to standard error. Exit
// codes: 0 done, 1 the work failed, 2 the command line is wrong, 130 Ctrl-C.
#include <torch/version.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <span>
#include <string>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/thread_waiting.h"

namespace {

extern "C" void on_signal(int signal) {
  ssa::remove_interrupted_files();
  std::_Exit(128 + signal);
}

void install_signal_handlers() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    ssa::catch_signal(signal, on_signal);
  }
  std::signal(SIGPIPE, SIG_DFL);  // `ssa generate ... | head` ends quietly
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

int report(const std::string& message, int code) {
  std::fprintf(stderr, "ssa: %s\n", ssa::escape_invalid_utf8(message).c_str());
  return code;
}

/// The subcommand that was named, the innermost of nested ones; else the root.
CLI::App& chosen(CLI::App& root) {
  const auto subcommands = root.get_subcommands();
  return subcommands.empty() ? root : chosen(*subcommands.front());
}

/// Throws UsageError for a first word that is no subcommand: CLI11 would only ask for one.
void check_command(const CLI::App& root, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* command : root.get_subcommands({})) {
    names.push_back(command->get_name());
  }
  if (!word.starts_with("-") && std::find(names.begin(), names.end(), word) == names.end()) {
    const std::string near = ssa::nearest_match(word, names);
    throw ssa::UsageError(
        word + " is not a command of 'ssa'; " +
        (near.empty() ? "known are " + ssa::join(names, ", ") : "did you mean " + near + "?"));
  }
}

/// Commands that compute. The others are not worth a second start.
bool runs_a_model(const std::string& command) {
  constexpr std::array kCommands = {"generate", "ask", "logits", "bench", "train", "eval"};
  return std::find(kCommands.begin(), kCommands.end(), command) != kCommands.end();
}

int run(CLI::App& root, int argc, char** argv) {
  try {
    if (argc > 1) {
      const std::span<const char* const> words(argv + 1, static_cast<size_t>(argc - 1));
      ssa::refuse_llama_flags(words);
      ssa::let_command_line_win(root, words);
      check_command(root, argv[1]);
    }
    root.parse(argc, argv);
    return 0;
  } catch (const ssa::Interrupted&) {
    return 128 + SIGINT;
  } catch (const CLI::Success& success) {  // --help, --version
    return root.exit(success);
  } catch (const CLI::ExtrasError&) {
    CLI::App& app = chosen(root);
    const auto extras = root.remaining(/*recurse=*/true);
    return report(ssa::describe_unknown_flag(app, extras.empty() ? "" : extras.front()), 2);
  } catch (const CLI::ParseError& error) {
    return report(first_line(error.what()), 2);
  } catch (const ssa::UsageError& error) {
    return report(error.what(), 2);
  } catch (const ssa::Error& error) {
    return report(error.what(), 1);
  } catch (const c10::Error& error) {
    return report(first_line(error.what_without_backtrace()), 1);
  } catch (const std::bad_alloc&) {
    return report("out of memory", 1);
  } catch (const std::exception& error) {
    return report(first_line(error.what()), 1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && runs_a_model(argv[1])) {
    ssa::shorten_spinning(argv);
  }
  install_signal_handlers();
  CLI::App root("Sparse attention over long contexts.", "ssa");
  root.set_version_flag("--version",
                        std::string("ssa " SSA_VERSION " (LibTorch ") + TORCH_VERSION + ")");
  root.require_subcommand(1);
  root.failure_message(CLI::FailureMessage::simple);
  ssa::add_generate_command(root);
  ssa::add_ask_command(root);
  ssa::add_logits_command(root);
  ssa::add_layout_command(root);
  ssa::add_tokenize_command(root);
  ssa::add_info_command(root);
  ssa::add_convert_command(root);
  ssa::add_gistify_command(root);
  ssa::add_data_command(root);
  ssa::add_bench_command(root);
  ssa::add_train_command(root);
  ssa::add_eval_command(root);
  for (CLI::App* command : root.get_subcommands({})) {
    ssa::add_environment_names(*command);
  }
  return run(root, argc, argv);
}
