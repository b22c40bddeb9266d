#include "cli/eval_sparsity.h"

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "cli/attention_flags.h"
#include "cli/model_flags.h"
#include "cli/output_files.h"
#include "cli/progress_bar.h"
#include "cli/prompt_flags.h"
#include "evaluation/sparsity.h"

namespace ssa {
namespace {

struct SparsityFlags {
  ModelFlags model;
  AttentionFlags attention;
  std::string text, out;
  SparsityOptions options;
  int64_t suffix_tokens = 512;
};

SparseVariant variant_of(BlockVariant variant) {
  return variant == BlockVariant::kNsa ? SparseVariant::kNsa : SparseVariant::kMoba;
}

/// Blocks unless --attention ssa says otherwise. `gists` must outlive the method.
SparsityMethod method_of(const SparsityFlags& flags,
                         const ModelConfig& config,
                         const std::optional<GistPlan>& gists) {
  SparsityMethod method;
  if (gists) {
    check(!gists->marks_only(),
          flags.model.model,
          " has no gist tokens, whose selection --attention ssa would measure");
    method.gists = {gists->settings(),
                    selection_options(flags.attention),
                    gists->word_boundaries(),
                    flags.suffix_tokens};
    return method;
  }
  const BlockPlan plan = plan_blocks(flags.attention.blocks, config);
  method.blocks.blocks = plan.options;
  method.blocks.variant = variant_of(plan.variant);
  method.blocks.window = std::max<int64_t>(plan.window, 1);
  return method;
}

void describe(Json& result,
              const SparsityFlags& flags,
              const SparsityMethod& method,
              const ModelConfig& config) {
  result["model"] = flags.model.model;
  result["text"] = flags.text;
  result["method"] = method.gists ? "ssa" : "sparse";
  if (method.gists) {
    result["chunk"] = format_chunk_sizes(method.gists->settings.chunk);
  } else {
    const BlockOptions& blocks = method.blocks.blocks;
    result["block_size"] = blocks.block_size;
    result["blocks"] = blocks.n_blocks;
    result["rule"] = blocks.rule == BlockRule::kExact ? "exact" : "published";
    result["variant"] = variant_name(resolve_variant(flags.attention.blocks, config));
  }
}

void print(const Json& result) {
  const auto line = [](const char* name, const Json& value) {
    if (value.is_number()) {
      std::printf("%-22s %.6g\n", name, value.get<double>());
    }
  };
  for (const char* name : {"full_loss",
                           "sparse_loss",
                           "attention_gap",
                           "capability_gap",
                           "kl_full_to_sparse",
                           "kl_sparse_to_full"}) {
    line(name, result[name]);
  }
  for (const auto& [name, value] : result["mean"].items()) {
    line(name.c_str(), value);
  }
  for (const Json& budget : result["budgets"]) {
    std::printf("%4lld blocks: sparse loss %.6g, KL %.6g\n",
                static_cast<long long>(budget["blocks"].get<int64_t>()),
                budget["sparse_loss"].get<double>(),
                budget["kl_full_to_sparse"].get<double>());
  }
  std::printf("bound violated in %lld of %lld\n",
              static_cast<long long>(result["bound"]["violated"].get<int64_t>()),
              static_cast<long long>(result["bound"]["measured"].get<int64_t>()));
}

/// The first n_tokens of a text, or all there are: of a long text only its start is looked at.
std::vector<int64_t> encode_start(const Tokenizer& tokenizer,
                                  const std::string& text,
                                  int64_t n_tokens) {
  constexpr int64_t kMargin = 256;  // tokens at the cut may differ from those of the whole text
  const EncodeOptions plain{.add_special = false, .parse_special = false};
  for (size_t wanted = static_cast<size_t>(n_tokens) * 8;; wanted *= 2) {
    const size_t line_end = wanted < text.size() ? text.find('\n', wanted) : std::string::npos;
    std::vector<int64_t> ids = tokenizer.encode(text.substr(0, line_end), plain);
    if (line_end == std::string::npos || std::ssize(ids) >= n_tokens + kMargin) {
      ids.resize(std::min(ids.size(), static_cast<size_t>(n_tokens)));
      return ids;
    }
  }
}

void run_sparsity(const SparsityFlags& flags) {
  check_writable(flags.out);
  const LoadedModel loaded = load(flags.model);
  const ModelConfig& config = loaded.model->config();
  const Tokenizer tokenizer = load_tokenizer(*loaded.checkpoint, flags.model.model);
  std::optional<GistPlan> gists;
  if (flags.attention.mode == "ssa") {
    gists.emplace(flags.attention, gist_model(*loaded.checkpoint), &tokenizer);
  } else {
    check(flags.attention.mode.empty() || flags.attention.mode == "sparse",
          "--attention ",
          flags.attention.mode,
          ": what is measured is a choice of keys: sparse or ssa");
  }
  const SparsityMethod method = method_of(flags, config, gists);
  const std::string text = read_text(flags.text);
  const int64_t length = flags.options.length;  // a token has a byte at least
  const int64_t most_windows = std::min(flags.options.n_windows, std::ssize(text) / length + 1);
  const std::vector<int64_t> ids = encode_start(tokenizer, text, most_windows * length);
  ProgressBar bar("measuring");
  Json result =
      measure_sparsity(*loaded.model, ids, method, flags.options, [&](int64_t done, int64_t all) {
        bar.update(done, all);
      });
  describe(result, flags, method, config);
  print(result);
  if (!flags.out.empty()) {
    write_file(flags.out, dump_json(result, 2) + "\n");
  }
}

}  // namespace

void add_sparsity_command(CLI::App& eval) {
  CLI::App* app = eval.add_subcommand(
      "sparsity", "What attention keeps of itself when keys are chosen, layer by layer");
  const auto flags = std::make_shared<SparsityFlags>();
  SparsityOptions& options = flags->options;
  flags->model.dtype = "auto";
  add_model_option(*app, flags->model.model);
  app->add_option("text", flags->text, "File of text")->required()->type_name("TEXT");
  add_run_flags(*app, flags->model);
  add_attention_flags(*app, flags->attention);
  app->add_option("--length", options.length, "Tokens a window")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 30))
      ->capture_default_str();
  app->add_option("--windows", options.n_windows, "Most windows, from the start of the text")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--queries", options.n_queries, "Queries measured a layer and window")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--budgets", options.budgets, "Further numbers of blocks to score, a comma list")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  app->add_option("--suffix-tokens",
                  flags->suffix_tokens,
                  "Of --attention ssa: tokens behind the gisted prefix of a window")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 30))
      ->capture_default_str();
  app->add_option("--reference-loss",
                  options.reference_loss,
                  "Full-mode loss of a model trained with full attention: for the capability gap");
  app->add_option("--out", flags->out, "JSON file with all numbers, by layer and head");
  app->callback([flags] { run_sparsity(*flags); });
}

}  // namespace ssa
