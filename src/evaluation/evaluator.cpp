#include "evaluation/evaluator.h"

#include <algorithm>
#include <numeric>

#include "base/text.h"
#include "evaluation/prompt_layout.h"

namespace ssa {

std::vector<std::string> budget_names(const EvalMethod& method) {
  const std::string ratio = concat(method.ratio.value_or(1.0));
  return {ratio + "@" + format_chunk_sizes(method.chunk), ratio};
}

const KeyBudget* find_budget(const KnownBudgets& known, const EvalMethod& method) {
  for (const std::string& name : budget_names(method)) {
    if (const auto found = known.find(name); found != known.end()) {
      return &found->second;
    }
  }
  return nullptr;
}

void add_budget(KnownBudgets& known, const EvalMethod& method, const KeyBudget& budget) {
  for (const std::string& name : budget_names(method)) {
    known.emplace(name, budget);
  }
}

Evaluator::Evaluator(EvalModel model, std::vector<EvalMethod> methods, EvalOptions options)
    : setup_{std::move(model), std::move(methods), options}, prefills_(plan()) {}

/// Those that set budgets come first.
std::vector<Prefill> Evaluator::plan() const {
  const std::vector<EvalMethod>& methods = setup_.methods;
  std::vector<Prefill> prefills;
  for (const PrefillKind kind :
       {PrefillKind::kGist, PrefillKind::kFull, PrefillKind::kSparse, PrefillKind::kNone}) {
    for (size_t i = 0; i < methods.size(); ++i) {
      const EvalMethod& method = methods[i];
      if (method.prefill != kind) {
        continue;
      }
      const ChunkSizes chunk = kind == PrefillKind::kGist ? method.chunk : ChunkSizes{};
      const auto same = [&](const Prefill& other) {
        return other.kind == kind && other.chunk == chunk && other.blocks == method.blocks;
      };
      auto found = std::find_if(prefills.begin(), prefills.end(), same);
      if (found == prefills.end()) {
        found = prefills.insert(prefills.end(), Prefill{kind, chunk, method.blocks, {}});
      }
      found->methods.push_back(i);
    }
  }
  const auto sets_budget = [&](size_t i) { return methods[i].sets_budget(); };
  for (Prefill& prefill : prefills) {
    std::stable_partition(prefill.methods.begin(), prefill.methods.end(), sets_budget);
  }
  std::stable_partition(prefills.begin(), prefills.end(), [&](const Prefill& prefill) {
    return sets_budget(prefill.methods.front());
  });
  return prefills;
}

/// Numbers of prompts that go together: neighbours by length, as far as they fit a pass.
std::vector<std::vector<size_t>> Evaluator::groups(std::span<const EvalPrompt> prompts) const {
  const EvalOptions& options = setup_.options;
  size_t most_streams = 1;
  for (const Prefill& prefill : prefills_) {
    most_streams = std::max(most_streams, prefill.methods.size());
  }
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), 0);
  std::vector<std::vector<size_t>> groups;
  if (options.together > 0) {
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return prompts[a].n_prefix() > prompts[b].n_prefix();
    });
  }
  int64_t longest_suffix = 0;
  for (const size_t i : order) {
    const int64_t suffix =
        std::max(longest_suffix, std::ssize(prompts[i].suffix) + std::ssize(prompts[i].answer));
    const auto fits = [&](const std::vector<size_t>& group) {
      const auto n = std::ssize(group) + 1;  // the first is the longest
      return n * prompts[group.front()].n_prefix() <= options.together &&
             n * suffix * static_cast<int64_t>(most_streams) <= options.most_rows;
    };
    if (groups.empty() || !fits(groups.back())) {
      groups.emplace_back();
      longest_suffix = 0;
    }
    groups.back().push_back(i);
    longest_suffix =
        std::max(longest_suffix, std::ssize(prompts[i].suffix) + std::ssize(prompts[i].answer));
  }
  return groups;
}

Outcomes Evaluator::run(std::span<const EvalPrompt> prompts,
                        std::span<const KnownBudgets> known,
                        const std::function<void(int64_t done)>& done) const {
  const torch::InferenceMode inference;
  for (const EvalPrompt& prompt : prompts) {
    check_prompt(setup_, prompt);
  }
  Outcomes outcomes(prompts.size());
  int64_t n_done = 0;
  for (const std::vector<size_t>& numbers : groups(prompts)) {
    Group group{.numbers = numbers};
    group.measured.resize(numbers.size());
    for (const size_t i : numbers) {
      group.prompts.push_back(&prompts[i]);
      group.known.push_back(known.empty() ? KnownBudgets() : known[i]);
    }
    Outcomes found = run_group(group);
    for (size_t i = 0; i < numbers.size(); ++i) {
      outcomes[numbers[i]] = std::move(found[i]);
    }
    n_done += std::ssize(numbers);
    if (done) {
      done(n_done);
    }
  }
  return outcomes;
}

Outcomes Evaluator::run_group(Group& group) const {
  Outcomes outcomes(group.prompts.size(), std::vector<MethodOutcome>(setup_.methods.size()));
  for (const Prefill& prefill : prefills_) {
    if (prefill.kind != PrefillKind::kSparse || !setup_.options.answers) {
      run_prefill(prefill, group, outcomes);
      continue;
    }
    for (size_t i = 0; i < group.prompts.size(); ++i) {
      Group one{{group.numbers[i]}, {group.prompts[i]}, {group.known[i]}, {group.measured[i]}};
      Outcomes of_one = {std::move(outcomes[i])};
      run_prefill(prefill, one, of_one);
      outcomes[i] = std::move(of_one.front());
    }
  }
  return outcomes;
}

void Evaluator::run_prefill(const Prefill& prefill, Group& group, Outcomes& outcomes) const {
  const std::unique_ptr<Reading> reading = read_prefixes(setup_, group.prompts, prefill);
  for (const std::vector<size_t>& batch : reading->batches()) {
    run_batch(*reading, batch, group, outcomes);
    if (prefill.kind == PrefillKind::kSparse) {  // one stream at a time
      reading->answer(outcomes);
    }
  }
  reading->answer(outcomes);
}

void Evaluator::run_batch(Reading& reading,
                          std::span<const size_t> batch,
                          Group& group,
                          Outcomes& outcomes) const {
  MethodBudgets budgets;
  for (const size_t i : batch) {
    const EvalMethod& method = setup_.methods[i];
    std::vector<const KeyBudget*>& by_prompt = budgets.emplace_back();
    for (size_t prompt = 0; prompt < group.prompts.size(); ++prompt) {
      const KeyBudget* here = find_budget(group.measured[prompt], method);
      by_prompt.push_back(here != nullptr ? here : find_budget(group.known[prompt], method));
      outcomes[prompt][i].budget = method.sets_budget()          ? "own"
                                   : !method.ratio               ? ""
                                   : here != nullptr             ? "run"
                                   : by_prompt.back() != nullptr ? "file"
                                                                 : "rule";
    }
  }
  reading.score(batch, budgets, outcomes);
  for (const size_t i : batch) {
    for (size_t prompt = 0; prompt < group.prompts.size(); ++prompt) {
      if (setup_.methods[i].sets_budget()) {
        add_budget(group.measured[prompt], setup_.methods[i], outcomes[prompt][i].attended);
      }
    }
  }
}

}  // namespace ssa
