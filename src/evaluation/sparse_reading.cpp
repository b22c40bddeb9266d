#include "evaluation/sparse_reading.h"

#include "evaluation/prompt_layout.h"

namespace ssa {

SparseReading::SparseReading(const EvalSetup& setup,
                             std::vector<const EvalPrompt*> prompts,
                             const Prefill& prefill)
    : Reading(setup, std::move(prompts), prefill),
      tally_(setup.model.model.config().n_layers, prefill.blocks.block_size) {
  TORCH_CHECK(prompts_.size() == 1, "block-sparse prefixes are read one by one");
  const EvalPrompt& prompt = *prompts_.front();
  const std::vector<int64_t> ids = joined_pieces(prompt);
  n_prefix_ = std::ssize(ids);
  sequence_ = std::make_unique<Sequence>(
      setup.model.model,
      setup.model.make_sparse(
          prefill.blocks, n_prefix_ + most_suffix_tokens(prompt, setup.options), &tally_));
  sequence_->advance(ids, consecutive_positions(0, n_prefix_), setup.options.piece, {});
}

Tensor SparseReading::feed(const FedRows& fed) {
  const std::vector<int64_t>& ids = fed.ids.front();
  const int64_t first = n_prefix_ + fed.rows.places.front().front();
  sequence_->rewind(first);
  Tensor hidden;
  sequence_->advance(ids,
                     consecutive_positions(first, std::ssize(ids)),
                     std::ssize(ids),
                     [&](int64_t, const Tensor& all) { hidden = all; });
  return hidden.unsqueeze(0);
}

Tensor SparseReading::feed_counted(const FedRows& fed, const Counted& counted) {
  const ForcedSuffix& forced = forced_.front();
  tally_.start({n_prefix_ + forced.first, n_prefix_ + forced.n_fed()}, evidence_keys());
  const Tensor hidden = feed(fed);
  tally_.stop();
  MethodOutcome& outcome = counted.outcomes.front()[counted.methods.front()];
  count(outcome,
        tally_.attended(),
        tally_.n_scanned(),
        setup_.model.model.config().n_layers);  // layer 0 chooses, too
  outcome.evidence_recall = tally_.evidence_recall();
  return hidden;
}

std::vector<int64_t> SparseReading::evidence_keys() const {
  std::vector<int64_t> keys;
  for (int64_t key = 0; key < n_prefix_; ++key) {
    for (const Range& range : prompts_.front()->evidence) {
      if (range.contains(key)) {
        keys.push_back(key);
        break;
      }
    }
  }
  return keys;
}

}  // namespace ssa
