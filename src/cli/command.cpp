#include "cli/command.h"

#include <algorithm>
#include <cctype>

#include "base/text.h"

namespace ssa {

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
