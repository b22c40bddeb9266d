// ssa logits: a model's logits as a file, the way anybody checks a conversion.
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/safetensors_writer.h"
#include "cli/command.h"
#include "cli/model_flags.h"
#include "cli/progress_bar.h"
#include "cli/prompt_flags.h"
#include "engine/sequence.h"
#include "tensor/convert.h"

namespace ssa {
namespace {

constexpr int64_t kPiece = 512;  // tokens a forward pass

struct LogitsFlags {
  ModelFlags model;
  std::string text, ids_file, out;
  std::string rows = "all";
  int64_t decode_from = 0;
};

std::vector<int64_t> ids_of(const Json& list, const std::string& where) {
  check(list.is_array(), where, ": expected a list of token ids");
  std::vector<int64_t> ids;
  for (const Json& id : list) {
    check(id.is_number_integer(), where, ": token id ", dump_json(id).substr(0, 40), " is not an integer");
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

/// A list, or {"prefix": [...], "suffix": [...]}: one behind the other.
std::vector<int64_t> read_ids(const std::string& path) {
  const Json json = read_json_file(path);
  if (json.is_array()) {
    return ids_of(json, path);
  }
  check(json.is_object(), path, ": expected a list of token ids or {\"prefix\": [...], \"suffix\": [...]}");
  std::vector<int64_t> ids;
  for (const auto& [key, list] : json.items()) {
    check(key == "prefix" || key == "suffix", path, ": unknown key '", key, "'; known are prefix and suffix");
  }
  for (const char* key : {"prefix", "suffix"}) {
    const std::vector<int64_t> part = json.contains(key) ? ids_of(json[key], path) : std::vector<int64_t>{};
    ids.insert(ids.end(), part.begin(), part.end());
  }
  return ids;
}

/// Collects rows of logits as they are computed.
class LogitRows {
 public:
  LogitRows(CausalLM& model, int64_t n_tokens, bool last_only)
      : model_(model),
        first_(last_only ? n_tokens - 1 : 0),
        logits_(torch::empty({n_tokens - first_, model.config().vocab_size},
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

void run_logits(const LogitsFlags& flags) {
  const LoadedModel loaded = load(flags.model);
  CausalLM& model = *loaded.model;
  const std::vector<int64_t> ids =
      flags.ids_file.empty()
          ? load_tokenizer(*loaded.checkpoint, flags.model.model).encode(flags.text)
          : read_ids(flags.ids_file);
  const auto n = static_cast<int64_t>(ids.size());
  check(n > 0, "there are no tokens to compute logits for");
  check(flags.decode_from < n, "--decode-from ", flags.decode_from, " is not below the ", n, " tokens");
  check_cache_memory(model, n);

  const torch::InferenceMode inference;
  const std::vector<int64_t> positions = consecutive_positions(0, n);
  LogitRows rows(model, n, flags.rows == "last");
  const auto collect = [&](int64_t first, const Tensor& hidden) { rows.add(first, hidden); };
  Sequence sequence(model, std::make_unique<FullAttention>(
                               KvCache(model.config(), model.dtype(), model.device(), n)));
  const std::span<const int64_t> all_ids(ids), all_positions(positions);
  const auto n_prompt = static_cast<size_t>(flags.decode_from > 0 ? flags.decode_from : n);
  ProgressBar bar("computing");
  sequence.advance(all_ids.first(n_prompt), all_positions.first(n_prompt), kPiece, collect, bar.callback());
  sequence.advance(all_ids.subspan(n_prompt), all_positions.subspan(n_prompt), 1, collect, bar.callback());

  write_safetensors(flags.out, {{"ids", to_host(torch::tensor(ids))},
                                {"positions", to_host(torch::tensor(positions))},
                                {"logits", to_host(rows.logits())}});
}

}  // namespace

void add_logits_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand("logits", "Logits of given tokens, as a safetensors file");
  const auto flags = std::make_shared<LogitsFlags>();
  flags->model.dtype = "f32";
  add_model_flags(*app, flags->model);
  auto* text = app->add_option("--text", flags->text, "Text; the tokenizer's template tokens are added");
  auto* ids = app->add_option("--ids", flags->ids_file,
                              "JSON file: a list of token ids, or {\"prefix\": [...], \"suffix\": [...]}");
  exclude_each_other({text, ids});
  app->add_option("--rows", flags->rows, "Which rows of logits to keep")
      ->check(CLI::IsMember({"all", "last"}))
      ->capture_default_str();
  app->add_option("--decode-from", flags->decode_from,
                  "Tokens from this index on go one by one through the cache")
      ->check(CLI::PositiveNumber);
  app->add_option("--out", flags->out, "safetensors file with ids, positions and logits")->required();
  app->callback([flags, text, ids] {
    if (text->empty() && ids->empty()) {
      throw UsageError("ssa logits needs --text or --ids");
    }
    run_logits(*flags);
  });
}

}  // namespace ssa
