// What an evaluation runs: a model, methods, and how.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/block_observer.h"
#include "engine/sequence.h"
#include "evaluation/eval_method.h"
#include "gist/gist_settings.h"
#include "gist/word_boundary.h"
#include "models/causal_lm.h"
#include "tokenizer/tokenizer.h"
#include "training/sparse_sparse.h"

namespace ssa {

/// A model and how its gists are laid. Refers to all of it.
struct EvalModel {
  CausalLM& model;
  const Tokenizer& tokenizer;
  GistSettings settings;  // token_ids: any that mark chunks where there are no gists
  const WordBoundaries* boundaries = nullptr;  // null: plain chunks
  bool has_gists = false;
  /// Block-sparse attention over an empty cache for `capacity` tokens, which tells the observer
  /// what it reads. May be empty where no method is block-sparse.
  std::function<std::unique_ptr<SequenceAttention>(
      const BlockOptions& options, int64_t capacity, BlockObserver* observer)>
      make_sparse = {};
  /// How such attention weighs what it chose: the variant and its window.
  SparseSparseOptions sparse = {.variant = SparseVariant::kMoba};
};

struct EvalOptions {
  int64_t piece = 8192;  // tokens of a prefix a forward pass, where it is read by itself
  int64_t predict = 32;  // most tokens of a greedy answer; 0: those of the gold answer
  bool stop_at_newline = true;
  bool answers = true;        // greedy ones; false: likelihoods alone
  int64_t gain_tokens = 256;  // of a suffix that is scored itself: its start, for the kept gain
  /// Prefix tokens of several prompts of similar length in one pass, padding included; 0: each
  /// prompt by itself.
  int64_t together = 0;
  int64_t most_rows = 1024;  // of suffixes in one pass, but for a single longer one
};

struct EvalSetup {
  EvalModel model;
  std::vector<EvalMethod> methods;
  EvalOptions options;
};

}  // namespace ssa
