// The flags that say how queries attend, and what they come to for a given checkpoint.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/model_flags.h"
#include "engine/chunked_attention.h"
#include "gist/gist_settings.h"
#include "gist/interleave.h"
#include "kv/kv_format.h"

namespace ssa {

struct AttentionFlags {
  std::string mode;  // full, ssa, gists; empty: ssa where the checkpoint has gists or a pivot is
                     // named, else full
  std::string chunk;
  std::optional<double> ratio;
  std::optional<int64_t> budget;
  std::optional<double> mass;
  std::optional<std::string> pivot;
  std::string select = "head";
  std::optional<int64_t> sink, previous_chunks;
  bool plain_chunks = false;
  int64_t dense_below = 0;
  std::string gist_ids;
  std::string kv_dtype = "auto";  // f32, bf16, int8; auto: the model's
  std::string kernels = "auto";   // reference: plain LibTorch
};

/// Adds --chunk, --sink, --previous-chunks, --plain-chunks and --gist-ids.
void add_layout_flags(CLI::App& app, AttentionFlags& flags);
/// Adds those and --attention, --ratio, --budget, --mass, --pivot, --select, --dense-below,
/// --kv-dtype and --kernels.
void add_attention_flags(CLI::App& app, AttentionFlags& flags);

/// What a prompt is made of: pieces that are gisted one by one, and a raw suffix.
struct PromptParts {
  std::vector<std::vector<int64_t>> pieces;
  std::vector<int64_t> suffix;

  int64_t n_tokens() const;
};

/// What the flags say of selection.
SelectionOptions selection_options(const AttentionFlags& flags);

enum class AttentionMode { kFull, kSsa, kGists };
const char* attention_mode_name(AttentionMode mode);

/// What a checkpoint says about gists.
struct GistModel {
  GistSettings settings;  // config.json's key "gist", else the defaults
  std::optional<int64_t> bos_id;
  int64_t vocab_size = 0;
};
/// From config.json's content.
GistModel gist_model(const Json& config);
GistModel gist_model(const Checkpoint& checkpoint);

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

/// Everything about attention for one command: the mode, and where it is not full the plan and the
/// options.
struct AttentionPlan {
  AttentionMode mode = AttentionMode::kFull;
  std::optional<GistPlan> gists;  // absent in full mode
  GistAttentionOptions options;
  /// Number type of a paged cache with kernels of our own; absent where LibTorch keeps keys and
  /// values and attends.
  std::optional<KvType> paged;
};

/// Throws UsageError or Error in one line for what does not fit the model and its checkpoint.
AttentionPlan plan_attention(const AttentionFlags& flags,
                             const Checkpoint& checkpoint,
                             const CausalLM& model,
                             const Tokenizer* tokenizer);

/// A prompt as the model reads it.
struct LaidPrompt {
  std::vector<int64_t> ids, positions;
  std::optional<GistLayout> layout;  // absent in full mode
};
LaidPrompt lay_prompt(const AttentionPlan& plan, const PromptParts& parts);

/// The attention of a sequence whose first n_prompt tokens are the prompt. `capacity` in tokens.
std::unique_ptr<SequenceAttention> make_attention(const AttentionPlan& plan,
                                                  const CausalLM& model,
                                                  const LaidPrompt& prompt,
                                                  int64_t n_prompt,
                                                  int64_t capacity);

/// Throws Error if the keys and values of so many tokens do not fit into memory, saying how much
/// they need and how many tokens would fit.
void check_cache_memory(const AttentionPlan& plan, const CausalLM& model, int64_t n_tokens);
/// "bf16 keys and values, avx512 kernels".
std::string describe_cache(const AttentionPlan& plan, const CausalLM& model);

/// The layout up to index n, as if the sequence ended there. n is not inside the prefix.
GistLayout truncate_suffix(const GistLayout& layout, int64_t n);

}  // namespace ssa
