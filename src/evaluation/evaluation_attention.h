// A prefix that is read once, and the suffixes of many methods that go on from it, as streams that
// share its keys and values: on any device, all rows of a pass together.
#pragma once

#include <memory>
#include <vector>

#include "attention/gist_mask_plan.h"
#include "engine/kv_cache.h"
#include "engine/sequence.h"
#include "evaluation/key_chooser.h"

namespace ssa {

/// What the rows of one pass attended, on the device.
struct PassTally {
  std::vector<Tensor> attended;  // by layer: [n_rows] float64, keys on average a head
  std::vector<Tensor> evidence;  // by layer: [n_rows] float64, share of the evidence's tokens;
                                 // empty without evidence
};

/// The reference's sets (GistAttention, FullAttention), computed for all queries together. Prefix
/// passes, layer 0, and streams without a chooser attend under the gist mask, or everything where
/// there are no gists. Behind the prefix the cache holds rows of all streams, each seen by its own
/// stream alone. Not thread-safe.
class EvaluationAttention : public SequenceAttention {
 public:
  /// `prefix_plan`: of the prefix under the gist mask, on the frame's device; null without gists.
  /// `sums_attention`: keeps what attention each token of a prefix read in full gets.
  EvaluationAttention(KvCache cache,
                      SuffixFrame frame,
                      GistMaskPlanPtr prefix_plan,
                      bool sums_attention);

  /// For streams that have none yet.
  void add_chooser(std::unique_ptr<KeyChooser> chooser) { choosers_.push_back(std::move(chooser)); }
  /// What the next pass holds. Of its streams everything from its rows' first index on is forgotten
  /// before.
  void set_rows(SuffixRows rows);
  /// Passes are counted into it until it is taken away. `evidence`: [n] indices of the prefix's
  /// keys, whose share is wanted; may be undefined.
  void set_tally(PassTally* tally, Tensor evidence);
  const ReceivedAttention& received() const { return received_; }

  int64_t pass_limit(int64_t first, int64_t wanted) const override;
  void begin_pass(int64_t first, std::span<const int64_t> ids) override;
  Tensor attend(int64_t layer, const AttentionInput& in) override;
  /// To the prefix alone, or less.
  void rewind(int64_t length) override;

 private:
  /// A chooser that has rows in this pass.
  struct Choosing {
    KeyChooser* chooser;
    Range rows;
  };

  bool in_prefix() const { return queries_.begin < frame_.prefix_end; }
  Tensor gist_rows(Range queries) const;
  void begin_suffix_pass();
  Tensor own_suffixes() const;
  Tensor suffix_mask(int64_t layer, const AttentionInput& in);
  Tensor attend_prefix(int64_t layer, const AttentionInput& in);
  void count(const Tensor& mask);
  void sum_received(int64_t layer, const AttentionInput& in);

  KvCache cache_;
  SuffixFrame frame_;
  GistMaskPlanPtr prefix_plan_;
  bool sums_attention_;
  std::vector<std::unique_ptr<KeyChooser>> choosers_;
  Tensor shown_;  // [sequence_end - prefix_end, prefix_end]: what the gist mask shows suffixes
  SuffixRows columns_;  // of the cache behind the prefix; stream -1: forgotten
  PassTally* tally_ = nullptr;
  Tensor evidence_;
  ReceivedAttention received_;
  // Of this pass.
  Range queries_;
  SuffixRows rows_;
  std::vector<Choosing> choosing_;
  Tensor mask_;  // [1, n_rows, n_keys]: where nothing is chosen
};

}  // namespace ssa
