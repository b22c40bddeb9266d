#include "cli/command.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/error.h"
#include "base/text.h"

namespace ssa {
namespace {

struct LlamaFlag {
  std::string_view name;
  const char* here;  // what does its work in this program
};
constexpr std::array kLlamaFlags = {
    LlamaFlag{"-ngl", "--device cuda"},
    LlamaFlag{"-mg", "--device cuda:N"},
    LlamaFlag{"-sm", "one device alone, --device cuda:N"},
    LlamaFlag{"-ts", "one device alone, --device cuda:N"},
    LlamaFlag{"-fa", "nothing, there is no slower way to switch off"},
    LlamaFlag{"-ctk", "--kv-dtype"},
    LlamaFlag{"-ctv", "--kv-dtype"},
    LlamaFlag{"-ub", "-b"},
    LlamaFlag{"-sys", "--system"},
    LlamaFlag{"-cnv", "--chat, or ssa ask"},
    LlamaFlag{"-no-cnv", "nothing, --chat is off unless given"},
    LlamaFlag{"-hf", "-m with a local file or folder"}};

}  // namespace

void add_environment_names(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const auto& names = option->get_lnames();
    if (names.empty() || names.front() == "help" || names.front() == "version") {
      continue;
    }
    std::string name = "SSA_" + names.front();
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
      return c == '-' ? '_' : static_cast<char>(std::toupper(c));
    });
    option->envname(name);
  }
}

const char* first_given(const CLI::App* app, std::span<const char* const> flags) {
  if (app == nullptr) {
    return nullptr;
  }
  for (const CLI::Option* option : app->parse_order()) {
    for (const char* flag : flags) {
      if (option->check_name(flag)) {
        return flag;
      }
    }
  }
  return nullptr;
}

void let_command_line_win(CLI::App& root, std::span<const char* const> words) {
  CLI::App* app = &root;
  for (const std::string word : words) {
    if (word == "--") {
      return;
    }
    if (const CLI::Option* option = app->get_option_no_throw(word.substr(0, word.find('=')))) {
      for (CLI::Option* other : option->get_excludes()) {
        other->envname("");
      }
    }
    for (CLI::App* command : app->get_subcommands({})) {
      if (command->get_name() == word) {
        app = command;
        break;
      }
    }
  }
}

void refuse_llama_flags(std::span<const char* const> words) {
  for (const std::string_view word : words) {
    if (word == "--") {
      return;
    }
    const std::string_view name = word.substr(0, word.find('='));
    const auto known = std::find_if(kLlamaFlags.begin(),
                                    kLlamaFlags.end(),
                                    [&](const LlamaFlag& flag) { return flag.name == name; });
    if (known != kLlamaFlags.end()) {
      throw UsageError(concat(name, " is llama.cpp's; here: ", known->here));
    }
  }
}

std::string describe_unknown_flag(const CLI::App& app, const std::string& flag) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      known.push_back("--" + name);
    }
  }
  const std::string given = flag.substr(0, flag.find('='));
  const std::string near = nearest_match(given, known);
  std::string where = app.get_name();
  for (const CLI::App* parent = app.get_parent(); parent != nullptr;
       parent = parent->get_parent()) {
    where = parent->get_name() + " " + where;
  }
  const std::string what = given.starts_with("-") ? "a flag" : "an argument";
  return given + " is not " + what + " of '" + where + "'" +
         (near.empty() ? "; see --help" : "; did you mean " + near + "?");
}

CLI::Validator not_empty(const std::string& complaint) {
  return CLI::Validator(
      [complaint](const std::string& value) {
        if (value.empty()) {
          throw UsageError(complaint);
        }
        return std::string();
      },
      "");
}

void exclude_each_other(const std::vector<CLI::Option*>& options) {
  for (CLI::Option* option : options) {
    for (CLI::Option* other : options) {
      if (option != other) {
        option->excludes(other);
      }
    }
  }
}

}  // namespace ssa
