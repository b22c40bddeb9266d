// The program's subcommands. Each adds its flags to the root and runs from CLI11's callback; errors
// travel as exceptions to main(), the only place that catches them.
#pragma once

#include <CLI/CLI.hpp>

namespace ssa {

void add_generate_command(CLI::App& root);
void add_info_command(CLI::App& root);
void add_tokenize_command(CLI::App& root);
void add_convert_command(CLI::App& root);
void add_logits_command(CLI::App& root);
void add_layout_command(CLI::App& root);
void add_ask_command(CLI::App& root);
void add_gistify_command(CLI::App& root);
void add_data_command(CLI::App& root);
void add_bench_command(CLI::App& root);
void add_train_command(CLI::App& root);
void add_eval_command(CLI::App& root);

/// Lets every option of `app` be given by an environment variable too: --ctx-size by SSA_CTX_SIZE.
/// The flag wins.
void add_environment_names(CLI::App& app);

/// "--tpo-k is not a flag of 'ssa generate'; did you mean --top-k?"
std::string describe_unknown_flag(const CLI::App& app, const std::string& flag);

/// Marks for exclusive groups: at most one of the options may be given. Throws at parse time, as
/// CLI11's excludes().
void exclude_each_other(const std::vector<CLI::Option*>& options);

}  // namespace ssa
