// Prompts' prefixes, read in one way, and what methods score and say that go on from them.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "evaluation/eval_prompt.h"
#include "evaluation/eval_setup.h"
#include "evaluation/greedy_answer.h"
#include "evaluation/method_outcome.h"
#include "evaluation/prompt_layout.h"
#include "evaluation/suffix_rows.h"
#include "evaluation/token_scores.h"

namespace ssa {

/// Methods that share a way to read the prefix.
struct Prefill {
  PrefillKind kind;
  ChunkSizes chunk;             // of kGist
  BlockOptions blocks;          // of kSparse
  std::vector<size_t> methods;  // of the setup; those that set budgets first
};

/// Budgets by prompt, or null, of each of some methods.
using MethodBudgets = std::vector<std::vector<const KeyBudget*>>;

/// Prompts that were read together, from which every method of the prefill goes on as a stream.
/// Refers to all it is given. Not thread-safe.
class Reading {
 public:
  virtual ~Reading() = default;

  /// Methods that may be fed to one pass, as `methods` orders them; those that set budgets apart.
  std::vector<std::vector<size_t>> batches() const;

  /// The methods' suffixes in one pass, under teacher forcing.
  void score(std::span<const size_t> methods, const MethodBudgets& budgets, Outcomes& outcomes);

  /// Greedy answers of what was scored since the last call; none without a gold answer. A pass
  /// holds the next token of each that goes on.
  void answer(Outcomes& outcomes);

 protected:
  /// Tokens of suffixes, for every prompt: [n_prompts][n_rows].
  struct FedRows {
    SuffixRows rows;
    std::vector<std::vector<int64_t>> ids;
  };
  /// Where counts of one pass go.
  struct Counted {
    std::span<const size_t> methods;
    Outcomes& outcomes;
  };

  Reading(const EvalSetup& setup, std::vector<const EvalPrompt*> prompts, const Prefill& prefill);

  /// Streams from `first` on are those of the methods, in their order.
  virtual void open_streams(std::span<const size_t> methods,
                            const MethodBudgets& budgets,
                            int64_t first) = 0;
  /// Hidden states of all rows: [n_prompts, n_rows, hidden_size].
  virtual Tensor feed(const FedRows& fed) = 0;
  /// The same of forced suffixes, whose streams are the methods', with what they attended.
  virtual Tensor feed_counted(const FedRows& fed, const Counted& counted) = 0;
  /// Forgets all suffixes.
  virtual void rewind() = 0;
  /// Do streams share a pass?
  virtual bool streams_together() const { return true; }
  virtual int64_t prefix_tokens(size_t prompt) const = 0;

  /// Numbers of one method and prompt.
  void count(MethodOutcome& outcome, KeyBudget attended, double scanned, int64_t n_choosing) const;

  const EvalSetup& setup_;
  std::vector<const EvalPrompt*> prompts_;
  const Prefill& prefill_;
  std::vector<ForcedSuffix> forced_;  // [n_prompts]

 private:
  /// Of one prompt and stream, on its way.
  struct OpenAnswer {
    size_t prompt, method;
    int64_t stream;
    GreedyAnswer answer;
  };

  FedRows forced_rows(int64_t n_methods, int64_t first_stream) const;
  Tensor predicting_rows(const Tensor& hidden, int64_t n_methods) const;
  void judge(MethodOutcome& outcome,
             size_t prompt,
             std::span<const double> nll,
             std::span<const int64_t> predictions) const;
  FedRows next_rows(std::span<OpenAnswer* const> open) const;

  TokenScorer scorer_;
  int64_t n_streams_ = 0;
  std::vector<OpenAnswer> answers_;
};

/// Reads the prefixes. Block-sparse ones that answers go on from: of one prompt.
std::unique_ptr<Reading> read_prefixes(const EvalSetup& setup,
                                       std::vector<const EvalPrompt*> prompts,
                                       const Prefill& prefill);

}  // namespace ssa
