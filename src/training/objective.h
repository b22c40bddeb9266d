// What a training step minimises: a weighted sum of the objectives, over one or two forward passes.
#pragma once

#include <memory>
#include <optional>

#include "models/causal_lm.h"
#include "training/sparse_sparse.h"
#include "training/training_attention.h"

namespace ssa {

/// 0: not asked for. Sources: arXiv 2604.20920 (cpt, sft, align); route and distill:
/// docs/training.md.
struct ObjectiveWeights {
  double lm = 0;       // cross entropy under full attention
  double cpt = 0;      // cross entropy under the gist mask
  double sft = 0;      // cross entropy with suffixes unfolding
  double distill = 0;  // KL from full attention to the student, on targets behind the prefix
  double route = 0;    // routing distillation
  double align = 0;  // smooth L1 between hidden states under full attention (no gradient) and under
                     // the gist mask
  double sparse_sparse = 0;  // cross entropy of one stream, and alignment: training/sparse_sparse.h

  bool any_gists() const { return cpt > 0 || sft > 0 || distill > 0 || route > 0 || align > 0; }
};

struct ObjectiveOptions {
  ObjectiveWeights weights = {};
  MaskRule rule = {};
  SelectionOptions selection = {};  // of sft, and of distill's student where that unfolds
  bool distill_unfolds = false;     // the student attends as sft does; else under the gist mask
  int64_t route_queries = 96;       // of a sequence
  SparseSparseOptions sparse = {};
  bool recompute_layers =
      false;  // activation checkpointing: a layer's inside is computed again in backward
};

/// What sums are divided by: counts over the whole global batch, so that it does not matter how it
/// is split.
struct BatchCounts {
  double targets = 0;         // that the loss counts
  double suffix_targets = 0;  // of these, behind a prefix
  double sequences = 0;
  double raw_tokens = 0;
};

BatchCounts count(const Batch& batch);

/// Divided and unweighted, without gradient: [] each, undefined where not asked for.
struct Losses {
  Tensor total;  // weighted
  Tensor lm, cpt, sft, distill, route, align;
  // Of sparse-sparse: cross entropy; the same where one stream feeds all layers; alignment;
  // attention sparsity. Each is a micro-batch's share of the mean over the global batch.
  Tensor ce, full, sparse, alignment, kept;
  double full_targets = 0, sparse_targets = 0;  // shares of the global batch's targets
};

/// Refers to the model. Not thread-safe: it runs the model's layers.
class Objective {
 public:
  /// `teacher`: a frozen copy for distillation; null: the model itself under full attention, with
  /// its adapter, if it has one, switched off.
  Objective(CausalLM& model,
            std::shared_ptr<CausalLM> teacher,
            const ObjectiveOptions& options,
            std::shared_ptr<LowRankSwitch> adapter = nullptr);

  /// Forward and backward passes over a micro-batch on the model's device: adds its share to the
  /// gradients.
  Losses run(const Batch& batch, const BatchCounts& counts);

  /// Mean negative log-likelihood of targets behind the prefix, and their number: [2] float64. No
  /// gradient.
  Tensor evaluate(const Batch& batch, const TrainingAttentionOptions& attention);

  const ObjectiveOptions& options() const { return options_; }

 private:
  struct Pass;
  Pass forward(const Batch& batch, const TrainingAttentionOptions& attention, bool keeps_hidden);
  Pass forward(const Batch& batch,
               const std::shared_ptr<TrainingContext>& context,
               bool keeps_hidden);
  /// Sparse-sparse over a batch without gists: cross entropy and weighted alignment.
  Tensor run_streams(const Batch& raw, const BatchCounts& counts, Losses& losses);

  CausalLM& model_;
  std::shared_ptr<CausalLM> teacher_;
  std::shared_ptr<LowRankSwitch> adapter_;  // null: the model has none
  ObjectiveOptions options_;
};

}  // namespace ssa
