// Prefixes under full attention or the gist mask, or none: every method a stream of one pass.
#pragma once

#include <map>
#include <memory>

#include "evaluation/evaluation_attention.h"
#include "evaluation/reading.h"

namespace ssa {

class DenseReading : public Reading {
 public:
  /// Several prompts are read in one pass, padded to the longest; one by itself in pieces.
  DenseReading(const EvalSetup& setup,
               std::vector<const EvalPrompt*> prompts,
               const Prefill& prefill);

 protected:
  void open_streams(std::span<const size_t> methods,
                    const MethodBudgets& budgets,
                    int64_t first) override;
  Tensor feed(const FedRows& fed) override;
  Tensor feed_counted(const FedRows& fed, const Counted& counted) override;
  void rewind() override { attention_->rewind(); }
  int64_t prefix_tokens(size_t prompt) const override { return frame_.prompts[prompt].prefix_end; }

 private:
  /// A prefix as the model reads it.
  struct Prefix {
    std::vector<int64_t> ids, positions;
    int64_t n_raw = 0;
  };

  Prefix lay(const EvalPrompt& prompt, PromptFrame& frame, GistMaskPlanPtr& plan) const;
  void read();
  Tensor forward(const std::vector<int64_t>& ids, const std::vector<int64_t>& positions);
  const SuffixFrame& frame_of(const EvalMethod& method);
  std::vector<int64_t> evidence_keys(size_t prompt) const;
  Tensor evidence() const;

  SuffixFrame frame_;
  std::map<ChunkSizes, SuffixFrame> marked_;  // with layouts that only mark chunks
  std::vector<Prefix> prefixes_;              // [n_prompts]
  std::unique_ptr<EvaluationAttention> attention_;
};

}  // namespace ssa
