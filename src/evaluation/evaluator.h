// Every method on every prompt, prefixes read once for each kind of prefill.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "evaluation/eval_prompt.h"
#include "evaluation/eval_setup.h"
#include "evaluation/method_outcome.h"
#include "evaluation/reading.h"

namespace ssa {

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

  /// One outcome a prompt and method, in their order. `known`: budgets measured elsewhere, by
  /// prompt, for ratios at which no method here unfolds by gists; empty: none. `done` is told how
  /// many prompts are. Throws Error naming file and line for a prompt that the model's positions
  /// cannot hold, before anything is read.
  Outcomes run(std::span<const EvalPrompt> prompts,
               std::span<const KnownBudgets> known = {},
               const std::function<void(int64_t done)>& done = {}) const;
  const std::vector<EvalMethod>& methods() const { return setup_.methods; }

 private:
  /// Prompts that are read together.
  struct Group {
    std::vector<size_t> numbers;
    std::vector<const EvalPrompt*> prompts = {};
    std::vector<KnownBudgets> known = {}, measured = {};
  };

  std::vector<Prefill> plan() const;
  std::vector<std::vector<size_t>> groups(std::span<const EvalPrompt> prompts) const;
  Outcomes run_group(Group& group) const;
  void run_prefill(const Prefill& prefill, Group& group, Outcomes& outcomes) const;
  void run_batch(Reading& reading,
                 std::span<const size_t> batch,
                 Group& group,
                 Outcomes& outcomes) const;

  EvalSetup setup_;
  std::vector<Prefill> prefills_;
};

}  // namespace ssa
