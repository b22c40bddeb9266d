// What the attention flags come to for one checkpoint: a mode, and sequences that attend in it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/attention_flags.h"
#include "engine/block_observer.h"
#include "engine/chunked_attention.h"
#include "kv/kv_format.h"

namespace ssa {

enum class AttentionMode { kFull, kSsa, kGists, kSparse };
const char* attention_mode_name(AttentionMode mode);

/// Everything about attention for one command: the mode, and what belongs to it.
struct AttentionPlan {
  AttentionMode mode = AttentionMode::kFull;
  std::optional<GistPlan> gists;    // of kSsa and kGists
  GistAttentionOptions options;     // of those
  std::optional<BlockPlan> blocks;  // of kSparse
  /// Number type of a paged cache with kernels of our own; absent where LibTorch keeps keys and
  /// values and attends.
  std::optional<KvType> paged;

  /// Prompts are laid out as chunks.
  bool has_layout() const { return gists.has_value(); }
  /// Attends everything from now on.
  void make_full();
};

/// Throws UsageError or Error in one line for what does not fit the model and its checkpoint.
AttentionPlan plan_attention(const AttentionFlags& flags,
                             const Checkpoint& checkpoint,
                             const CausalLM& model,
                             const Tokenizer* tokenizer);

/// A prompt as the model reads it.
struct LaidPrompt {
  std::vector<int64_t> ids, positions;
  std::optional<GistLayout> layout;  // absent where nothing is laid
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

/// May be null; an attention that chooses nothing has none. They must outlive their use.
struct AttentionObservers {
  SelectionObserver* gists = nullptr;
  BlockObserver* blocks = nullptr;
};
void set_observers(SequenceAttention& attention, const AttentionObservers& observers);

/// "full", "ssa", "gists", or what describe_blocks() says.
std::string describe_attention(const AttentionPlan& plan);
/// "bf16 keys and values, avx512 kernels".
std::string describe_cache(const AttentionPlan& plan, const CausalLM& model);

/// The layout up to index n, as if the sequence ended there. n is not inside the prefix.
GistLayout truncate_suffix(const GistLayout& layout, int64_t n);

}  // namespace ssa
