// The program's subcommands. Each adds its flags to the root and runs from CLI11's callback; errors
// travel as exceptions to main(), the only place that catches them.
#pragma once

#include <CLI/CLI.hpp>
#include <span>

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

/// The first of the flags that stands on the command line; null if none does. Values from the
/// environment do not count. `app` may be null: nothing was parsed. Names as "--chunk".
const char* first_given(const CLI::App* app, std::span<const char* const> flags);

/// Before parsing: a flag among the words takes their environment variables from those that it
/// excludes. With SSA_RATIO set, --budget is no contradiction.
void let_command_line_win(CLI::App& root, std::span<const char* const> words);

/// Throws UsageError for a word that is one of llama.cpp's flags of several letters behind one
/// dash, saying what does its work here: CLI11 would read "-ngl" as -n with the value "gl". Words
/// behind "--" are nobody's flags.
void refuse_llama_flags(std::span<const char* const> words);

/// "--tpo-k is not a flag of 'ssa generate'; did you mean --top-k?"
std::string describe_unknown_flag(const CLI::App& app, const std::string& flag);

/// A check that throws UsageError with the complaint for an empty value, which would else count as
/// not given.
CLI::Validator not_empty(const std::string& complaint);

/// Marks for exclusive groups: at most one of the options may be given. Throws at parse time, as
/// CLI11's excludes().
void exclude_each_other(const std::vector<CLI::Option*>& options);

}  // namespace ssa
