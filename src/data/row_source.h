// One dataset seen as a list of rows of raw sequences.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "data/lay_sequence.h"
#include "data/qa_fit.h"
#include "data/row_plan.h"
#include "data/row_random.h"
#include "data/token_dataset.h"
#include "data/training_data.h"

namespace ssa {

/// A dataset, and the plan of its rows. Const methods are safe from many threads. References the
/// options and vocabulary, which must outlive it.
class RowSource {
 public:
  /// Throws Error naming the dataset for what does not fit the options or the vocabulary.
  RowSource(const std::filesystem::path& path,
            const DataOptions& options,
            const DataVocabulary& vocabulary,
            uint64_t seed);
  RowSource(const RowSource&) = delete;  // the plan asks this object for lengths
  RowSource& operator=(const RowSource&) = delete;

  uint64_t n_rows() const { return plan_->n_rows(); }
  /// All but path's share.
  const SourceSummary& summary() const { return summary_; }

  /// The sequences of a draw: every n_rows() draws are one pass, each in another order.
  /// `min_prefix` is the fewest raw tokens that a text's prefix may have, where it has one at all.
  std::vector<RawSequence> draw(uint64_t draw, uint64_t min_prefix, RowRandom& random) const;

 private:
  bool is_qa() const { return dataset_.meta().kind == DatasetKind::kQa; }
  bool joins() const;
  RowShape row_shape() const;
  void check_fit() const;
  void summarize();
  QaFit fit(uint64_t entry) const;
  /// Tokens that a row has of the entry, EOS that is added included, BOS not; 0: it has none.
  uint64_t entry_length(uint64_t entry) const;

  std::vector<int64_t> begin_tokens() const;
  void append_text(const EntryPart& part, std::vector<int64_t>& ids) const;
  RawSequence split_text(std::vector<int64_t> ids, uint64_t min_prefix, RowRandom& random) const;
  RawSequence read_qa(uint64_t entry) const;

  const DataOptions* options_;
  const DataVocabulary* vocabulary_;
  uint64_t seed_;
  TokenDataset dataset_;
  bool adds_eos_;
  std::unique_ptr<const RowPlan> plan_;
  SourceSummary summary_;
};

}  // namespace ssa
