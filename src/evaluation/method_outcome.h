// What one method did with one item.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "evaluation/key_chooser.h"

namespace ssa {

/// Numbers per step are means over the suffix's queries.
struct MethodOutcome {
  double nll = 0;  // a scored token
  int64_t n_scored = 0;
  double gain_nll = 0;                // a scored token among the first gain_tokens; no answer alone
  bool all_correct = false;           // every answer token is the likeliest, those before it given
  std::optional<std::string> answer;  // greedy; absent where none was asked for
  int64_t prefix_tokens = 0, suffix_tokens = 0;  // of the sequence, gists included
  KeyBudget attended;                            // keys a key/value head, by layer
  std::vector<double> evidence_recall;           // by layer; empty where no evidence is marked
  double scanned = 0;  // vectors scored, a key/value head and layer that chooses
  double attended_bytes = 0, scanned_bytes = 0;  // of the whole model, a step
  std::string budget;  // "own", "run", "file", "rule", "" where there is none
};

/// Of every prompt and method: [n_prompts][n_methods].
using Outcomes = std::vector<std::vector<MethodOutcome>>;

}  // namespace ssa
