// ssa train: runs a recipe.
#include <atomic>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/progress_bar.h"
#include "distributed/launcher.h"
#include "training/trainer.h"

namespace ssa {
namespace {

struct TrainFlags {
  std::string recipe, init_from;
  bool resume = false;
  int spawn = 0;
};

std::atomic<bool> stop_asked = false;

extern "C" void ask_to_stop(int) {
  stop_asked = true;
}

/// The same command without --spawn, for the processes that it starts.
std::vector<std::string> command_of_a_process(const TrainFlags& flags,
                                              const std::vector<std::string>& overrides) {
  std::vector<std::string> command = {"/proc/self/exe", "train", flags.recipe};
  if (flags.resume) {
    command.emplace_back("--resume");
  }
  if (!flags.init_from.empty()) {
    command.insert(command.end(), {"--init-from", flags.init_from});
  }
  command.insert(command.end(), overrides.begin(), overrides.end());
  return command;
}

/// Overrides of the recipe are what CLI11 does not know; a mistyped flag is among them. Throws
/// UsageError for it.
void check_overrides(const CLI::App& app, const std::vector<std::string>& overrides) {
  for (size_t i = 0; i < overrides.size(); ++i) {
    const std::string key = overrides[i].substr(0, overrides[i].find('='));
    if (!key.starts_with("--") || key.find('.') == std::string::npos) {
      throw UsageError(describe_unknown_flag(app, key) +
                       " (the recipe's keys: --section.key value)");
    }
    i += key == overrides[i] ? 1 : 0;  // its value
  }
}

void run_train(const TrainFlags& flags, const std::vector<std::string>& overrides) {
  if (flags.spawn > 0) {
    read_recipe(flags.recipe, overrides);  // a mistake is named once, and not by every process
    const int code = launch_processes({.processes = flags.spawn,
                                       .command = command_of_a_process(flags, overrides),
                                       .report = [](const std::string& line) { log_info(line); }});
    if (code != 0) {
      std::exit(code);
    }
    return;
  }
  const Recipe recipe = read_recipe(flags.recipe, overrides);
  const auto group = ProcessGroup::from_environment(training_device(recipe.model.device));
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    catch_signal(signal, ask_to_stop);  // from here on it means: write a checkpoint, then end
  }
  TrainerOptions options;
  options.resume = flags.resume;
  options.init_from = flags.init_from;
  options.stop = &stop_asked;
  if (group->is_main()) {
    options.on_line = [](const std::string& line) { log_info(line); };
  } else {
    options.on_line = [rank = group->rank()](const std::string& line) {
      log_info("rank ", rank, ": ", line);
    };
  }
  const TrainingResult result = train(recipe, options, group);
  if (group->is_main()) {
    std::printf("%s\n", result.checkpoint.c_str());
  }
}

}  // namespace

void add_train_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand(
      "train", "Train a model by a recipe (TOML); --section.key value overrides it");
  const auto flags = std::make_shared<TrainFlags>();
  app->add_option("recipe", flags->recipe, "Recipe: docs/training.md lists its keys")->required();
  app->add_flag("--resume", flags->resume, "Go on from the newest whole checkpoint in job.output");
  app->add_option("--init-from",
                  flags->init_from,
                  "Start from this checkpoint's weights, with a fresh optimiser and warm-up");
  app->add_option("--spawn", flags->spawn, "Start so many processes on this machine, one GPU each")
      ->check(CLI::PositiveNumber);
  app->allow_extras();
  app->callback([app, flags] {
    const std::vector<std::string> overrides = app->remaining();
    check_overrides(*app, overrides);
    run_train(*flags, overrides);
  });
}

}  // namespace ssa
