#include "evaluation/key_chooser.h"

#include <algorithm>

#include "evaluation/chosen_number.h"
#include "evaluation/fixed_chooser.h"
#include "evaluation/pivot_chooser.h"
#include "selection/select.h"

namespace ssa {
namespace {

/// N / ratio, the specification's measure of unfolding, and what is always attended with it.
double ruled_prefix_keys(const EvalMethod& method,
                         const SuffixFrame& frame,
                         const PromptFrame& prompt) {
  const auto n_tokens = static_cast<double>(std::max(prompt.n_prompt, prompt.prefix_end));
  return n_tokens / *method.ratio + static_cast<double>(std::max<int64_t>(0, frame.rule.sink)) +
         static_cast<double>(frame.rule.previous_chunks * prompt.layout->chunk_sizes()[0]);
}

}  // namespace

SelectionOptions selection_of(const EvalMethod& method) {
  SelectionOptions options;
  options.pivot = method.pivot;
  options.ratio = method.ratio;
  return options;
}

int64_t ruled_top_k(const EvalMethod& method,
                    const SuffixFrame& frame,
                    const PromptFrame& prompt,
                    int level,
                    int64_t n) {
  return top_k_of_level(selection_of(method),
                        level,
                        std::max(prompt.n_prompt, n),
                        prompt.layout->n_gists(level),
                        frame.group_size,
                        prompt.layout->chunk_sizes());
}

std::vector<double> wanted_prefix_keys(const StreamMethod& stream,
                                       const SuffixFrame& frame,
                                       size_t prompt,
                                       int64_t n_queries) {
  // Of the suffix up to itself, the queries being its first.
  const double suffix_keys = static_cast<double>(n_queries + 1) / 2.0;
  const KeyBudget* budget = stream.budgets[prompt];
  std::vector<double> wanted;
  for (int64_t layer = 0; layer < frame.n_layers; ++layer) {
    wanted.push_back(budget != nullptr
                         ? (*budget)[static_cast<size_t>(layer)] - suffix_keys
                         : ruled_prefix_keys(stream.method, frame, frame.prompts[prompt]));
  }
  return wanted;
}

bool chooses(const EvalMethod& method, const PromptFrame& prompt) {
  switch (method.rule) {
    case KeyRule::kAll:
    case KeyRule::kGists:
      return false;
    case KeyRule::kPivots:
      return prompt.prefix_end > 0 && prompt.layout->n_gists() > 0;
    case KeyRule::kWindow:
    case KeyRule::kHeavy:
      return prompt.prefix_end > 0;
  }
  TORCH_INTERNAL_ASSERT(false, "method without a rule");
}

bool choose_alike(const EvalMethod& a, const EvalMethod& b) {
  return a.rule == KeyRule::kPivots && b.rule == KeyRule::kPivots && a.pivot == b.pivot &&
         a.chunk == b.chunk && a.prefill == b.prefill;
}

std::unique_ptr<KeyChooser> make_key_chooser(std::span<const StreamMethod> methods,
                                             int64_t first_stream,
                                             const SuffixFrame& frame,
                                             const ReceivedAttention* received) {
  switch (methods.front().method.rule) {
    case KeyRule::kPivots:
      return std::make_unique<PivotChooser>(methods, first_stream, frame);
    case KeyRule::kWindow:
      return std::make_unique<WindowChooser>(methods.front(), first_stream, frame);
    case KeyRule::kHeavy:
      return std::make_unique<HeavyChooser>(methods.front(), first_stream, frame, *received);
    case KeyRule::kAll:
    case KeyRule::kGists:
      break;
  }
  TORCH_INTERNAL_ASSERT(false, "method that does not choose");
}

double n_scanned(const EvalMethod& method,
                 const SuffixFrame& frame,
                 const PromptFrame& prompt,
                 int64_t suffix_end) {
  if (method.rule != KeyRule::kPivots || method.pivot == Pivot::kRecent ||
      method.pivot == Pivot::kRandom) {
    return 0;
  }
  const GistLayout& layout = *prompt.layout;
  const int top = layout.n_levels() - 1;
  auto n = static_cast<double>(layout.n_gists(top));
  for (int level = top; level > 0; --level) {
    // Children of what each head keeps; heads of a group may share some.
    const int64_t top_k = ruled_top_k(method, frame, prompt, level, suffix_end);
    const int64_t children =
        frame.group_size * top_k * layout.chunk_sizes()[static_cast<size_t>(level)];
    n += static_cast<double>(std::min(children, layout.n_gists(level - 1)));
  }
  return method.pivot == Pivot::kQuest ? 2 * n : n;  // maxima and minima
}

}  // namespace ssa
