// A prefix under block-sparse attention, which its one method goes on with: by the engine's own
// contexts, a token at a time behind the forced suffix.
#pragma once

#include <memory>
#include <optional>

#include "evaluation/block_tally.h"
#include "evaluation/reading.h"

namespace ssa {

/// Of one prompt.
class SparseReading : public Reading {
 public:
  SparseReading(const EvalSetup& setup,
                std::vector<const EvalPrompt*> prompts,
                const Prefill& prefill);

 protected:
  void open_streams(std::span<const size_t>, const MethodBudgets&, int64_t) override {}
  Tensor feed(const FedRows& fed) override;
  Tensor feed_counted(const FedRows& fed, const Counted& counted) override;
  void rewind() override { sequence_->rewind(n_prefix_); }
  bool streams_together() const override { return false; }
  int64_t prefix_tokens(size_t) const override { return n_prefix_; }

 private:
  std::vector<int64_t> evidence_keys() const;

  BlockTally tally_;
  int64_t n_prefix_ = 0;
  std::unique_ptr<Sequence> sequence_;
};

}  // namespace ssa
