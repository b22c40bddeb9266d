// Prompts under block-sparse attention with their forced suffixes behind them, all in one pass:
// what likelihoods need where no answer has to be generated.
#pragma once

#include "evaluation/reading.h"
#include "training/sparse_sparse.h"

namespace ssa {

/// Rows that are counted, of prompts side by side, on the device.
struct CountedRows {
  Tensor tokens;    // [n_prompts, n_rows] the token each stands at; padding: any
  Tensor counts;    // [n_prompts, n_rows] float64: 1, and 0 in padding
  Tensor predicts;  // the same for rows that predict a target
  Tensor evidence;  // [n_prompts, n_blocks] float64 tokens of the evidence in each block; undefined
                    // where no prompt marks any
};

/// The same sets of keys as SparseReading's, by the attention that training takes (its scores and
/// sums are float32, so that blocks that tie but for rounding may change places). Keeps nothing
/// between passes.
class WholeReading : public Reading {
 public:
  WholeReading(const EvalSetup& setup,
               std::vector<const EvalPrompt*> prompts,
               const Prefill& prefill);

 protected:
  void open_streams(std::span<const size_t>, const MethodBudgets&, int64_t) override {}
  /// Throws Error: nothing is generated here.
  Tensor feed(const FedRows& fed) override;
  Tensor feed_counted(const FedRows& fed, const Counted& counted) override;
  void rewind() override {}
  bool streams_together() const override { return false; }
  int64_t prefix_tokens(size_t prompt) const override { return n_prefix_[prompt]; }

 private:
  Batch make_batch(const FedRows& fed) const;
  CountedRows counted_rows(int64_t n_rows, int64_t n_tokens) const;
  double scanned(size_t prompt) const;
  Tensor evidence_by_block(int64_t n_blocks) const;

  std::vector<std::vector<int64_t>> prefixes_;  // [n_prompts]
  std::vector<int64_t> n_prefix_;
};

}  // namespace ssa
