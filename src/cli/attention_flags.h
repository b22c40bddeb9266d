// The flags that say how queries attend, and how they lay gists for a given checkpoint.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/block_flags.h"
#include "cli/model_flags.h"
#include "gist/gist_settings.h"
#include "gist/interleave.h"
#include "gist/mask.h"
#include "selection/selection_options.h"

namespace ssa {

struct AttentionFlags {
  std::string mode;  // full, ssa, gists, sparse; empty: ssa where the checkpoint has gists or a
                     // pivot is named, sparse where a llama-nsa model says so, else full
  std::string chunk;
  std::optional<double> ratio;
  std::optional<int64_t> budget;
  std::optional<double> mass;
  std::optional<std::string> pivot;
  std::string select = "head";
  std::optional<int64_t> sink, previous_chunks;
  bool plain_chunks = false;
  bool has_words = true;  // false: random tokens, among which chunks end anywhere
  int64_t dense_below = 0;
  std::string gist_ids;
  std::string kv_dtype = "auto";  // f32, bf16, int8; auto: the model's
  std::string kernels = "auto";   // reference: plain LibTorch
  BlockFlags blocks;
  const CLI::App* app = nullptr;  // whose flags these are; null: nobody gave them
};

/// Adds --chunk, --sink, --previous-chunks, --plain-chunks and --gist-ids. `app` must outlive the
/// flags.
void add_layout_flags(CLI::App& app, AttentionFlags& flags);
/// Adds those, add_block_flags()'s, and --attention, --ratio, --budget, --mass, --pivot, --select,
/// --dense-below, --kv-dtype and --kernels.
void add_attention_flags(CLI::App& app, AttentionFlags& flags);

/// What a prompt is made of: pieces that are gisted one by one, and a raw suffix.
struct PromptParts {
  std::vector<std::vector<int64_t>> pieces;
  std::vector<int64_t> suffix;

  int64_t n_tokens() const;
};

/// What the flags say of selection.
SelectionOptions selection_options(const AttentionFlags& flags);

/// What a checkpoint says about gists.
struct GistModel {
  GistSettings settings;  // config.json's key "gist", else the defaults
  std::optional<int64_t> bos_id;
  int64_t vocab_size = 0;
};
/// From config.json's content.
GistModel gist_model(const Json& config);
GistModel gist_model(const Checkpoint& checkpoint);

/// Ids of the gist tokens: the tokenizer's, else config.json's, else the flag's; empty if there are
/// none.
std::vector<int64_t> find_gist_ids(const AttentionFlags& flags,
                                   const GistSettings& settings,
                                   const Tokenizer* tokenizer);

/// How gists are laid for one checkpoint: its settings under the flags, and its tokenizer's word
/// boundaries.
class GistPlan {
 public:
  /// `tokenizer` may be null. Throws Error for flags that the checkpoint cannot follow.
  GistPlan(const AttentionFlags& flags, const GistModel& model, const Tokenizer* tokenizer);

  /// Neither tokenizer nor config.json nor --gist-ids name the gist tokens: layouts only mark where
  /// chunks end.
  bool marks_only() const { return marks_only_; }

  const GistSettings& settings() const { return settings_; }
  /// Pieces gisted, suffix behind them.
  GistLayout lay(const PromptParts& parts) const;
  /// Ids that hold their gists already, raw suffix behind them.
  GistLayout parse(const PromptParts& parts) const;
  /// Null where chunks are plain.
  const WordBoundaries* word_boundaries() const {
    return settings_.word_aware ? &boundaries_ : nullptr;
  }
  MaskRule mask_rule() const { return {settings_.sink, settings_.previous_chunks}; }

 private:
  GistSettings settings_;
  std::optional<int64_t> bos_id_;
  WordBoundaries boundaries_;      // empty where chunks are plain
  std::vector<int64_t> link_ids_;  // <link1> ..., where the tokenizer has them
  bool marks_only_ = false;
};

}  // namespace ssa
