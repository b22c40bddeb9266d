// Prefixes that are read once, and the suffixes of many methods that go on from them, as streams
// that share their keys and values: on any device, all prompts and all rows of a pass together.
#pragma once

#include <memory>
#include <vector>

#include "attention/attention.h"
#include "attention/gist_mask_plan.h"
#include "engine/kv_cache.h"
#include "evaluation/key_chooser.h"

namespace ssa {

/// What the rows of one pass attended, on the device.
struct PassTally {
  std::vector<Tensor> attended;  // by layer: [n_prompts, n_rows] float64, keys on average a head
  std::vector<Tensor> evidence;  // by layer: [n_prompts, n_rows] float64, share of the evidence's
                                 // tokens; empty without evidence
};

/// The reference's sets (GistAttention, FullAttention), computed for all queries together. Prefix
/// passes, layer 0, and streams without a chooser attend under the gist mask, or everything where
/// there are no gists. Behind the prefixes the cache holds rows of all streams, each seen by its
/// own stream alone. A pass holds as many tokens of each prompt, prompt by prompt. Not thread-safe.
///
///   cache of a prompt    prefix, padded to the longest | rows of pass 1 | rows of pass 2 ...
class EvaluationAttention : public AttentionContext {
 public:
  /// `cache`: of as many key/value heads as all prompts have together, empty. `prefix_plans`: of
  /// each prompt's prefix under the gist mask, on the frame's device; null where it is empty or
  /// there are no gists. `sums_attention`: keeps what attention each token of a prefix gets.
  EvaluationAttention(KvCache cache,
                      SuffixFrame frame,
                      std::vector<GistMaskPlanPtr> prefix_plans,
                      bool sums_attention);

  /// For streams that have none yet.
  void add_chooser(std::unique_ptr<KeyChooser> chooser) { choosers_.push_back(std::move(chooser)); }
  /// Passes are counted into it until it is taken away. `evidence`: [n_prompts, width] bool, the
  /// keys whose share is wanted; may be undefined.
  void set_tally(PassTally* tally, Tensor evidence);
  const ReceivedAttention& received() const { return received_; }

  /// The next pass holds these tokens of every prefix: all of them where there are several prompts.
  void begin_prefix(Range tokens);
  /// The next pass holds these rows. Of their streams everything from their first place on is
  /// forgotten before.
  void begin_suffixes(SuffixRows rows);
  /// Forgets all suffixes.
  void rewind();

  Tensor attend(int64_t layer, const AttentionInput& in) override;

 private:
  /// A chooser that has rows in this pass.
  struct Choosing {
    KeyChooser* chooser;
    Range rows;
  };

  AttentionInput side_by_side(const AttentionInput& in) const;
  void forget_from_rows();
  Tensor own_suffixes() const;
  Tensor shown_to_rows() const;
  Tensor suffix_mask(int64_t layer, const AttentionInput& in);
  Tensor attend_prefix(int64_t layer, const AttentionInput& in, const AttentionInput& by_head);
  Tensor attend_gists(const AttentionInput& in) const;
  void count(const Tensor& mask);
  void sum_received(int64_t layer, const AttentionInput& in);

  KvCache cache_;
  SuffixFrame frame_;
  std::vector<GistMaskPlanPtr> prefix_plans_;
  bool sums_attention_;
  std::vector<std::unique_ptr<KeyChooser>> choosers_;
  Tensor shown_;        // [n_prompts, n_places or 1, width]: what the prefill's rule shows suffixes
  SuffixRows columns_;  // of the cache behind the prefixes; place kForgotten: of no stream
  PassTally* tally_ = nullptr;
  Tensor evidence_, n_evidence_;
  ReceivedAttention received_;
  // Of this pass.
  bool in_prefix_ = true;
  Range prefix_tokens_;
  SuffixRows rows_;
  std::vector<Choosing> choosing_;
  Tensor mask_;  // [n_heads, n_rows, n_keys]: where nothing is chosen; undefined: causal
};

}  // namespace ssa
