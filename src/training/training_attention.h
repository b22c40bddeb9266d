// How a training batch attends: an AttentionContext with gradients and without a cache.
#pragma once

#include <map>
#include <memory>

#include "attention/attention.h"
#include "selection/unfold_mask.h"
#include "training/batch.h"

namespace ssa {

/// Full attention over raw sequences; the gist mask; or layer 0 and prefixes under it, while
/// suffixes unfold.
enum class TrainingMode { kFull, kGists, kUnfold };

struct TrainingAttentionOptions {
  TrainingMode mode = TrainingMode::kGists;
  MaskRule rule = {};
  SelectionOptions selection = {};  // kUnfold
  /// Suffix queries of a sequence that routing distillation looks at, evenly spaced, the last among
  /// them; 0: none.
  int64_t route_queries = 0;
};

/// Refers to the batch. attend() may be called again for a layer, when it is computed anew in the
/// backward pass.
class TrainingAttention : public AttentionContext {
 public:
  TrainingAttention(const Batch& batch, const TrainingAttentionOptions& options);

  Tensor attend(int64_t layer, const AttentionInput& in) override;

  /// The routing loss of the layer that attended last, and forgets it: sum over sequences of the
  /// mean over heads, queries and levels of KL(teacher || student) (docs/gist_attention.md; spec
  /// section 5). Undefined where there is none: layer 0, sequences without gists, another mode.
  Tensor take_route_loss();

 private:
  void add_route_losses(const AttentionInput& in);
  const UnfoldMask& mask_of(const SequenceGroup& group, const AttentionInput& in);

  const Batch& batch_;
  TrainingAttentionOptions options_;
  Tensor route_loss_;
  std::map<int64_t, std::unique_ptr<UnfoldMask>>
      masks_;  // by a group's first row; made when first asked for
};

}  // namespace ssa
