// Chunks by a pivot, for methods that differ in how many.
#pragma once

#include <memory>
#include <optional>

#include "evaluation/key_chooser.h"
#include "selection/chunk_tree.h"
#include "selection/pivot_bank.h"

namespace ssa {

/// Unfolding by gists keeps what the specification says; other pivots as many chunks a head, the
/// same for all queries but for one more for a share of them, as come to the budget.
class PivotChooser : public KeyChooser {
 public:
  PivotChooser(std::span<const StreamMethod> methods, int64_t first_stream, SuffixFrame frame);

  void begin_pass(const SuffixRows& rows) override;
  Tensor attended(int64_t layer, const Tensor& q, const Tensor& keys) override;

 private:
  /// So many chunks a head, and one more for a share of the queries: [n_prompts, n_streams] each.
  struct Places {
    Tensor top_k;  // int64
    Tensor share;  // float64
  };
  /// Of this pass, on the device.
  struct Rows {
    Tensor always;              // [n_prompts, n_rows, width]: attended whatever is chosen
    Tensor stream;              // [n_rows] ordinal among this chooser's
    Tensor spread;              // [n_prompts, n_rows] in [0, 1): is a row among the share?
    std::vector<Tensor> ruled;  // by level, [n_prompts, n_rows]: the specification's top_k
  };
  /// What budgets are fitted to: the first pass. On the device.
  struct Target {
    Tensor wanted;    // [n_layers, n_prompts, n_streams] keys of the prefix a query
    Tensor added;     // [n_prompts, n_rows, n_gists] keys that each gist adds; 0 in padding
    Tensor n_always;  // [n_prompts, n_streams] keys attended anyway, a query
    Tensor n_rows;    // [n_prompts, 1] queries of a stream
  };

  std::vector<ChunkView> views() const;
  Tensor always_attended() const;
  void set_target(const SuffixRows& rows);
  std::vector<Tensor> by_level(const Tensor& top_k) const;
  Tensor spread_out(const Places& places) const;
  Tensor a_query(const Tensor& sums) const;
  Tensor mean_attended(const ChunkTree::Ranked& ranked, const Tensor& top_k) const;
  Tensor attended_by_number(const ChunkTree::Ranked& ranked) const;
  Places fit(const ChunkTree::Ranked& ranked, const Tensor& wanted) const;
  Places fit_one_level(const ChunkTree::Ranked& ranked, const Tensor& wanted) const;

  std::vector<StreamMethod> methods_;
  SuffixFrame frame_;
  ChunkTree tree_;
  bool sets_budgets_;
  int64_t most_chunks_;  // of a prompt, at level 0
  std::shared_ptr<const PivotIndex> pivots_;
  Tensor always_;  // [n_prompts, n_places, width]
  Rows rows_;
  Target target_;                                // where budgets are given
  std::vector<std::optional<PivotBank>> banks_;  // [n_layers]
  std::vector<Places> places_;                   // [n_layers]
};

}  // namespace ssa
