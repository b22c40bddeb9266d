// ssa logits: a model's logits as a file, the way anybody checks a conversion.
#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "checkpoint/safetensors_writer.h"
#include "cli/attention_plan.h"
#include "cli/command.h"
#include "cli/model_flags.h"
#include "cli/output_files.h"
#include "cli/progress_bar.h"
#include "cli/prompt_files.h"
#include "engine/sequence.h"
#include "tensor/convert.h"

namespace ssa {
namespace {

struct LogitsFlags {
  ModelFlags model;
  AttentionFlags attention;
  std::string text, ids_file, out;
  std::string rows = "all";
  int64_t decode_from = 0;
  int64_t piece = 512;       // tokens of the prompt a forward pass
  int64_t decode_piece = 1;  // tokens behind it
};

/// Collects rows of logits as they are computed.
class LogitRows {
 public:
  LogitRows(CausalLM& model, int64_t n_tokens, bool last_only)
      : model_(model),
        first_(last_only ? n_tokens - 1 : 0),
        logits_(
            torch::empty({n_tokens - first_, model.config().vocab_size},
                         model.dtype() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32)) {}

  void add(int64_t first, const Tensor& hidden) {
    const int64_t skipped = std::max<int64_t>(0, first_ - first);
    if (skipped < hidden.size(0)) {
      const Tensor rows = model_.logits(hidden.slice(0, skipped));
      logits_.narrow(0, first + skipped - first_, rows.size(0)).copy_(rows);
    }
  }
  const Tensor& logits() const { return logits_; }

 private:
  CausalLM& model_;
  int64_t first_;
  Tensor logits_;  // [n_rows, vocab_size]
};

/// The model's tokenizer; absent where the checkpoint has none, which --ids does not mind.
std::optional<Tokenizer> find_tokenizer(const Checkpoint& checkpoint) {
  const Json json = checkpoint.tokenizer_json();
  return json.is_null() ? std::nullopt : std::optional(Tokenizer::from_json(json));
}

PromptParts read_parts(const LogitsFlags& flags, const std::optional<Tokenizer>& tokenizer) {
  if (!flags.ids_file.empty()) {
    return read_prompt_parts(flags.ids_file);
  }
  check(tokenizer.has_value(),
        "--text needs a tokenizer.json in ",
        flags.model.model,
        "; --ids does without");
  return {{tokenizer->encode(replace_invalid_utf8(flags.text))}, {}};
}

/// Tokens from `n` on become the raw suffix: without gists in the sequence chunks are laid over the
/// prompt alone, and everything may end it.
PromptParts end_pieces_at(PromptParts parts, int64_t n) {
  PromptParts cut;
  for (const std::vector<int64_t>& piece : parts.pieces) {
    const int64_t kept = std::min(static_cast<int64_t>(piece.size()), n);
    cut.pieces.emplace_back(piece.begin(), piece.begin() + kept);
    cut.suffix.insert(cut.suffix.end(), piece.begin() + kept, piece.end());
    n -= kept;
  }
  cut.suffix.insert(cut.suffix.end(), parts.suffix.begin(), parts.suffix.end());
  return cut;
}

/// Tokens of the prompt; those behind it go one by one.
int64_t prompt_length(const LogitsFlags& flags, const LaidPrompt& prompt, bool has_gists) {
  const auto n = static_cast<int64_t>(prompt.ids.size());
  check(n > 0, "there are no tokens to compute logits for");
  check(flags.decode_from < n,
        "--decode-from ",
        flags.decode_from,
        " is not below the ",
        n,
        " tokens");
  const int64_t n_prompt = flags.decode_from > 0 ? flags.decode_from : n;
  const int64_t prefix = prompt.layout && has_gists ? prompt.layout->prefix_end() : 0;
  check(n_prompt >= prefix,
        "--decode-from ",
        flags.decode_from,
        " lies inside the gisted prefix of ",
        prefix,
        " tokens");
  return n_prompt;
}

void run_logits(const LogitsFlags& flags) {
  check_writable(flags.out);
  const LoadedModel loaded = load(flags.model);
  CausalLM& model = *loaded.model;
  const std::optional<Tokenizer> tokenizer = find_tokenizer(*loaded.checkpoint);
  const AttentionPlan plan =
      plan_attention(flags.attention, *loaded.checkpoint, model, tokenizer ? &*tokenizer : nullptr);
  PromptParts parts = read_parts(flags, tokenizer);
  if (flags.decode_from > 0 && !plan.options.has_gists) {
    parts = end_pieces_at(std::move(parts), flags.decode_from);
  }
  const LaidPrompt prompt = lay_prompt(plan, parts);
  const auto n = static_cast<int64_t>(prompt.ids.size());
  const auto n_prompt = static_cast<size_t>(prompt_length(flags, prompt, plan.options.has_gists));
  check_cache_memory(plan, model, n);

  const torch::InferenceMode inference;
  LogitRows rows(model, n, flags.rows == "last");
  const auto collect = [&](int64_t first, const Tensor& hidden) { rows.add(first, hidden); };
  Sequence sequence(model, make_attention(plan, model, prompt, static_cast<int64_t>(n_prompt), n));
  const std::span<const int64_t> ids(prompt.ids), positions(prompt.positions);
  ProgressBar bar("computing");
  sequence.advance(
      ids.first(n_prompt), positions.first(n_prompt), flags.piece, collect, bar.callback());
  sequence.advance(ids.subspan(n_prompt),
                   positions.subspan(n_prompt),
                   flags.decode_piece,
                   collect,
                   bar.callback());

  write_safetensors(flags.out,
                    {{"ids", to_host(torch::tensor(prompt.ids))},
                     {"positions", to_host(torch::tensor(prompt.positions))},
                     {"logits", to_host(rows.logits())}});
}

}  // namespace

void add_logits_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("logits", "Logits of given tokens, as a safetensors file");
  const auto flags = std::make_shared<LogitsFlags>();
  flags->model.dtype = "f32";
  flags->attention.mode = "full";
  add_model_flags(*app, flags->model);
  const auto check_given = add_text_or_ids_flags(*app, flags->text, flags->ids_file);
  app->add_option("--rows", flags->rows, "Which rows of logits to keep")
      ->check(CLI::IsMember({"all", "last"}))
      ->capture_default_str();
  app->add_option("--decode-from",
                  flags->decode_from,
                  "Tokens from this index on go one by one through the cache")
      ->check(CLI::PositiveNumber);
  app->add_option("--decode-piece",
                  flags->decode_piece,
                  "So many of them a forward pass, each choosing for itself: the same but for "
                  "rounding, and faster")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  add_attention_flags(*app, flags->attention);
  app->add_option("-b,--batch-size", flags->piece, "Tokens a forward pass")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--out", flags->out, "safetensors file with ids, positions and logits")
      ->required();
  app->callback([flags, check_given] {
    check_given();
    run_logits(*flags);
  });
}

}  // namespace ssa
