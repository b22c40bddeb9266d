// Every method on one prompt, the prefix read once for each kind of prefill.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/block_observer.h"
#include "evaluation/eval_method.h"
#include "evaluation/eval_prompt.h"
#include "evaluation/evaluation_attention.h"
#include "gist/interleave.h"
#include "models/causal_lm.h"

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
};

struct EvalOptions {
  int64_t piece = 8192;  // tokens of the prefix a forward pass
  int64_t predict = 32;  // most tokens of a greedy answer; 0: those of the gold answer
  bool stop_at_newline = true;
  int64_t gain_tokens = 256;  // of a suffix that is scored itself: its start, for the kept gain
};

/// What one method did with one item. Numbers per step are means over the suffix's queries.
struct MethodOutcome {
  double nll = 0;  // a scored token
  int64_t n_scored = 0;
  double gain_nll = 0;       // a scored token among the first gain_tokens; no answer alone
  bool all_correct = false;  // every answer token is the likeliest, those before it given
  std::string answer;        // greedy
  int64_t prefix_tokens = 0, suffix_tokens = 0;  // of the sequence, gists included
  KeyBudget attended;                            // keys a key/value head, by layer
  std::vector<double> evidence_recall;           // by layer; empty where no evidence is marked
  double scanned = 0;  // vectors scored, a key/value head and layer that chooses
  double attended_bytes = 0, scanned_bytes = 0;  // of the whole model, a step
  std::string budget;  // "own", "run", "file", "rule", "" where there is none
};

/// Keys that unfolding by gists attended at each ratio.
using KnownBudgets = std::map<std::string, KeyBudget>;
/// What a method's budget goes by: ratio and chunk, then the ratio alone.
std::vector<std::string> budget_names(const EvalMethod& method);
/// The budget for a method, with its chunk if there is one; else null.
const KeyBudget* find_budget(const KnownBudgets& known, const EvalMethod& method);
/// Records what a method attended; the first at a ratio stands for the ratio.
void add_budget(KnownBudgets& known, const EvalMethod& method, const KeyBudget& budget);

/// Not thread-safe.
class Evaluator {
 public:
  Evaluator(EvalModel model, std::vector<EvalMethod> methods, EvalOptions options);

  /// One outcome a method, in their order. `known`: budgets measured elsewhere, for ratios at which
  /// no method here unfolds by gists. Throws Error naming file and line for a prompt that the
  /// model's positions cannot hold.
  std::vector<MethodOutcome> run(const EvalPrompt& prompt, const KnownBudgets& known) const;
  const std::vector<EvalMethod>& methods() const { return methods_; }

 private:
  /// Methods that share a prefill.
  struct Prefill {
    PrefillKind kind;
    ChunkSizes chunk;     // of kGist
    BlockOptions blocks;  // of kSparse
    std::vector<size_t> methods;
  };
  class Reading;

  std::vector<Prefill> plan() const;
  void check_length(const EvalPrompt& prompt) const;
  GistLayout lay_prefix(const EvalPrompt& prompt, const ChunkSizes& chunk) const;
  GistLayout with_suffix(GistLayout prefix, const EvalPrompt& prompt) const;
  int64_t most_new_tokens(const EvalPrompt& prompt) const;
  int64_t most_suffix_tokens(const EvalPrompt& prompt) const;
  void run_batch(Reading& reading,
                 std::span<const size_t> batch,
                 const KnownBudgets& known,
                 KnownBudgets& measured,
                 std::vector<MethodOutcome>& outcomes) const;

  EvalModel model_;
  std::vector<EvalMethod> methods_;
  EvalOptions options_;
};

}  // namespace ssa
