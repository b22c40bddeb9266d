// ssa gistify: a checkpoint with gist tokens, ready for training.
#include <string>

#include "base/log.h"
#include "cli/attention_flags.h"
#include "cli/command.h"
#include "cli/progress_bar.h"
#include "models/gistify.h"

namespace ssa {
namespace {

struct GistifyFlags {
  std::string in, out, chunk;
  GistSettings settings;
  bool plain_chunks = false;
};

void run_gistify(const GistifyFlags& flags) {
  const auto source = open_checkpoint(flags.in);
  GistSettings settings = flags.settings;
  settings.word_aware = !flags.plain_chunks;
  if (!flags.chunk.empty()) {
    settings.chunk = parse_chunk_sizes(flags.chunk);
  }
  ProgressBar bar("writing");
  gistify(*source, settings, flags.out, bar.callback());
  log_info("wrote ", flags.out, " with <gist>, <Gist> and <MGist>");
  log_warning(
      "its gists are untrained: --attention ssa and gists answer badly until it is trained on "
      "them");
}

}  // namespace

void add_gistify_command(CLI::App& root) {
  CLI::App* app =
      root.add_subcommand("gistify", "Add gist tokens to a checkpoint, ready for training");
  const auto flags = std::make_shared<GistifyFlags>();
  app->add_option("in", flags->in, "Hugging Face directory or .gguf file")->required();
  app->add_option("out", flags->out, "New Hugging Face directory")->required();
  app->add_option(
      "--chunk", flags->chunk, "Chunk size, or sizes of each level: 8, or 4,4 (default 8)");
  app->add_option("--sink", flags->settings.sink, "First tokens that all later ones see")
      ->capture_default_str();
  app->add_option("--previous-chunks",
                  flags->settings.previous_chunks,
                  "Chunks before the own one that stay visible raw")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app->add_flag(
      "--plain-chunks", flags->plain_chunks, "Count tokens; do not move gists to word boundaries");
  app->callback([flags] { run_gistify(*flags); });
}

}  // namespace ssa
