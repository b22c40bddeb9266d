// How many keys of the prefix a method is due: the specification's numbers, and what budgets come
// to.
#pragma once

#include "evaluation/key_chooser.h"
#include "selection/selection_options.h"

namespace ssa {

SelectionOptions selection_of(const EvalMethod& method);

/// The specification's top_k of a level for a query at the end of n tokens.
int64_t ruled_top_k(const EvalMethod& method,
                    const SuffixFrame& frame,
                    const PromptFrame& prompt,
                    int level,
                    int64_t n);

/// Keys of the prefix wanted of a stream in every layer on average over its queries: its budget
/// without the suffix's keys, or the rule's. [n_layers]
std::vector<double> wanted_prefix_keys(const StreamMethod& stream,
                                       const SuffixFrame& frame,
                                       size_t prompt,
                                       int64_t n_queries);

}  // namespace ssa
