// Results as lines of JSON, and what they come to.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "evaluation/bootstrap.h"
#include "evaluation/evaluator.h"

namespace ssa {

/// One method on one item: docs/evaluation.md lists the fields.
Json result_line(EvalTask task,
                 const EvalMethod& method,
                 const EvalPrompt& prompt,
                 const MethodOutcome& outcome);

/// Reads lines that a run wrote. Throws Error naming file and line for what none writes.
std::vector<Json> read_result_lines(const std::filesystem::path& path);

/// For each item (by id) the budgets that its lines of unfolding by gists show.
std::map<std::string, KnownBudgets> budgets_of(const std::vector<Json>& lines);

/// Statistics of each method, in order of first appearance: {"method", "n", "prefill", "attended",
/// "attended_bytes", "scanned_bytes", and by metric {"mean", "low", "high"}}.
Json summarize(const std::vector<Json>& lines, const BootstrapOptions& options = {});

/// Another result to hold the run against: its lines, and the method there; empty: the same name.
struct Comparison {
  std::vector<Json> lines;
  std::string method;
};
/// Differences of each method from the other's, over the items that both have: {"method",
/// "against", "n", and by metric {"mean", "low", "high"}}. Throws Error where they share none.
Json compare(const std::vector<Json>& lines,
             const Comparison& other,
             const BootstrapOptions& options = {});

/// Rows of a summary or a comparison as a Markdown table.
std::string results_table(const Json& rows);

}  // namespace ssa
