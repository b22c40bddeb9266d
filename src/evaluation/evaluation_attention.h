// A sequence whose prefix is read once and whose suffix every method attends in its own way, the
// whole suffix at once, on any device.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "engine/kv_cache.h"
#include "engine/sequence.h"
#include "evaluation/key_chooser.h"

namespace ssa {

/// What the queries of one pass attended.
struct PassTally {
  std::vector<Tensor> attended;  // by layer, on the device: keys on average a head and query
  std::vector<Tensor> evidence;  // by layer: share of the evidence's tokens; empty without evidence
};

/// The reference's sets (GistAttention, FullAttention), computed for all queries together. Prefix
/// passes, layer 0, and methods without a chooser attend under the gist mask, or everything where
/// there are no gists. Not thread-safe.
class EvaluationAttention : public SequenceAttention {
 public:
  /// `sums_attention`: keeps what attention each token of a prefix read in full gets.
  EvaluationAttention(KvCache cache, SuffixFrame frame, bool sums_attention);

  /// How suffix tokens attend from now on; null: as the prefix does. Not owned.
  void set_chooser(KeyChooser* chooser) { chooser_ = chooser; }
  /// Passes are counted into it until it is taken away. `rows`: queries of the pass, and
  /// `evidence`: [n] indices of keys, whose share is wanted; may be undefined.
  void set_tally(PassTally* tally, Range rows, Tensor evidence);
  const ReceivedAttention& received() const { return received_; }

  int64_t pass_limit(int64_t first, int64_t wanted) const override;
  void begin_pass(int64_t first, std::span<const int64_t> ids) override;
  Tensor attend(int64_t layer, const AttentionInput& in) override;
  void rewind(int64_t length) override { cache_.truncate(length); }

 private:
  bool in_prefix() const { return queries_.begin < frame_.prefix_end; }
  const Tensor& gist_mask();
  Tensor attended_keys(int64_t layer, const AttentionInput& in);
  void count(const Tensor& mask);
  void sum_received(int64_t layer, const AttentionInput& in);

  KvCache cache_;
  SuffixFrame frame_;
  bool sums_attention_;
  KeyChooser* chooser_ = nullptr;
  PassTally* tally_ = nullptr;
  Range tally_rows_;
  Tensor evidence_;
  Range queries_;
  Tensor mask_;  // of the gists, of this pass: [1, n_queries, n_keys]
  ReceivedAttention received_;
};

}  // namespace ssa
