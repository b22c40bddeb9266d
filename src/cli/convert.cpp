// ssa convert: between Hugging Face directories and GGUF files.
#include <string>

#include "base/log.h"
#include "checkpoint/convert.h"
#include "cli/command.h"
#include "cli/progress_bar.h"

namespace ssa {
namespace {

struct ConvertFlags {
  std::string in, out, type;
  uint64_t shard_bytes = ConvertOptions{}.shard_bytes;
};

void run_convert(const ConvertFlags& flags) {
  ProgressBar bar("converting");
  ConvertOptions options;
  options.type = flags.type;
  options.shard_bytes = flags.shard_bytes;
  options.progress = bar.callback();
  convert_checkpoint(flags.in, flags.out, options);
  log_info("wrote ", flags.out);
}

}  // namespace

void add_convert_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("convert", "Hugging Face directory or GGUF file to either");
  const auto flags = std::make_shared<ConvertFlags>();
  app->add_option("in", flags->in, "Hugging Face directory or .gguf file")->required();
  app->add_option("out", flags->out, "New directory, or a name that ends in .gguf")->required();
  app->add_option("--type", flags->type, "Number type of the result (default: as stored)")
      ->check(CLI::IsMember({"f32", "bf16", "f16", "q8_0"}));
  app->add_option("--shard-size", flags->shard_bytes, "Largest safetensors file, e.g. 5GB")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true));
  app->callback([flags] { run_convert(*flags); });
}

}  // namespace ssa
