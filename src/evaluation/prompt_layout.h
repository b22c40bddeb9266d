// Where a prompt's tokens and gists stand, and how far its suffixes go.
#pragma once

#include "evaluation/eval_prompt.h"
#include "evaluation/eval_setup.h"
#include "gist/interleave.h"

namespace ssa {

/// The prefix with gists of these chunks.
GistLayout lay_prefix(const EvalModel& model, const EvalPrompt& prompt, const ChunkSizes& chunk);
/// With room for the longest suffix behind it; its ids do not matter.
GistLayout with_suffix(GistLayout prefix, const EvalPrompt& prompt, const EvalOptions& options);

/// Of a greedy answer.
int64_t most_new_tokens(const EvalPrompt& prompt, const EvalOptions& options);
/// Question, gold answer and greedy answer together.
int64_t most_suffix_tokens(const EvalPrompt& prompt, const EvalOptions& options);

/// All pieces, one behind the other.
std::vector<int64_t> joined_pieces(const EvalPrompt& prompt);

/// What is scored under teacher forcing.
struct ForcedSuffix {
  std::vector<int64_t> ids;  // question and answer
  int64_t first = 0;         // row that predicts the first target

  int64_t n_fed() const { return static_cast<int64_t>(ids.size()) - 1; }
  std::span<const int64_t> fed() const { return std::span(ids).first(ids.size() - 1); }
  std::span<const int64_t> targets() const {
    return std::span(ids).subspan(static_cast<size_t>(first) + 1);
  }
};
ForcedSuffix forced_suffix(const EvalPrompt& prompt);

/// Throws Error naming file and line for a prompt that the model's positions or its vocabulary
/// cannot hold.
void check_prompt(const EvalSetup& setup, const EvalPrompt& prompt);

}  // namespace ssa
