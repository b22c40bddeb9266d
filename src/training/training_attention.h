// How a training batch attends: an AttentionContext with gradients and without a cache.
#pragma once

#include <memory>

#include "attention/attention.h"
#include "training/batch.h"
#include "training/suffix_unfolding.h"

namespace ssa {

/// Full attention over raw sequences; the gist mask; layer 0 and prefixes under it, while suffixes
/// unfold; or block-sparse attention over raw sequences (StreamAttention, not TrainingAttention).
enum class TrainingMode { kFull, kGists, kUnfold, kSparse };

struct TrainingAttentionOptions {
  TrainingMode mode = TrainingMode::kGists;
  MaskRule rule = {};
  SelectionOptions selection = {};  // kUnfold
  bool routes = false;              // routing distillation along the batch's plan
  int64_t n_blocks = 0;             // kSparse; 0: as trained
};

/// A context with something to lose: what a layer adds to the loss beside its output.
class TrainingContext : public AttentionContext {
 public:
  /// Of the layer that attended last, and forgets it; undefined where there is none.
  virtual Tensor take_layer_loss() = 0;
};

/// Refers to the batch. attend() may be called again for a layer, when it is computed anew in the
/// backward pass.
class TrainingAttention : public TrainingContext {
 public:
  TrainingAttention(const Batch& batch, const TrainingAttentionOptions& options);

  Tensor attend(int64_t layer, const AttentionInput& in) override;

  /// The routing loss of the layer that attended last, and forgets it: sum over sequences of the
  /// mean over heads, queries and levels of KL(teacher || student) (docs/gist_attention.md; spec
  /// section 5). Undefined where there is none: layer 0, sequences without gists, another mode.
  Tensor take_layer_loss() override;

 private:
  /// All groups' rows, group by group.
  template <class Fn>
  Tensor by_groups(const AttentionInput& in, const Fn& attend_group) const;
  const SuffixUnfolding& unfolding(const AttentionInput& in);

  const Batch& batch_;
  TrainingAttentionOptions options_;
  Tensor route_loss_;
  std::unique_ptr<const SuffixUnfolding> unfolding_;  // made when first asked for
};

}  // namespace ssa
