// ssa convert: between Hugging Face directories and GGUF files.
#include <string>

#include "base/log.h"
#include "checkpoint/convert.h"
#include "cli/command.h"
#include "cli/progress_bar.h"
#include "models/adapter.h"
#include "models/gistified_checkpoint.h"

namespace ssa {
namespace {

struct ConvertFlags {
  std::string in, out, type, adapter;
  uint64_t shard_bytes = ConvertOptions{}.shard_bytes;
};

void run_convert(const ConvertFlags& flags) {
  ProgressBar bar("converting");
  ConvertOptions options;
  options.type = flags.type;
  options.shard_bytes = flags.shard_bytes;
  options.progress = bar.callback();
  if (flags.adapter.empty()) {
    convert_checkpoint(flags.in, flags.out, options);
  } else {
    // Padding rows would leave a gap in the tokenizer's ids, which other programs do not read.
    std::shared_ptr<const Checkpoint> base = open_checkpoint(flags.in);
    const auto files = std::make_shared<AdapterFiles>(flags.adapter);
    const int64_t n_kept =
        files->config().gist_ids.empty() ? base->config().vocab_size : rows_in_use(*base);
    convert_checkpoint(*merged_checkpoint(std::move(base), files, n_kept), flags.out, options);
  }
  log_info("wrote ", flags.out);
}

}  // namespace

void add_convert_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("convert", "Hugging Face directory or GGUF file to either");
  const auto flags = std::make_shared<ConvertFlags>();
  app->add_option("in", flags->in, "Hugging Face directory or .gguf file")->required();
  app->add_option("out", flags->out, "New directory, or a name that ends in .gguf")->required();
  app->add_option("--adapter", flags->adapter, "Folder with a gist adapter, to be merged in")
      ->type_name("DIR");
  app->add_option("--type", flags->type, "Number type of the result (default: as stored)")
      ->check(CLI::IsMember({"f32", "bf16", "f16", "q8_0"}));
  app->add_option("--shard-size", flags->shard_bytes, "Largest safetensors file, e.g. 5GB")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true));
  app->callback([flags] { run_convert(*flags); });
}

}  // namespace ssa
