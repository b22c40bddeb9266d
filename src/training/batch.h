// Rows as the model takes them: all tokens of all sequences, one behind the other.
#pragma once

#include <torch/types.h>

#include <span>
#include <vector>

#include "attention/gist_mask_batch.h"
#include "attention/gist_mask_plan.h"
#include "data/training_row.h"
#include "training/route_loss.h"

namespace ssa {

using torch::Tensor;

/// Neighbouring sequences of one layout, which attend as one batch.
struct SequenceGroup {
  int64_t first_row = 0;  // in the batch's tokens
  int64_t n_sequences = 0;
  GistLayout layout;
  GistMaskPlanPtr plan;  // of the whole sequence

  int64_t n_rows() const { return n_sequences * layout.n_tokens(); }
};

/// The micro-batch that one forward pass takes. Index tensors are int64.
struct Batch {
  Tensor ids;          // [n_rows]
  Tensor positions;    // [n_rows]
  Tensor target_rows;  // [n_targets] rows that have a target
  Tensor target_ids;   // [n_targets]
  /// [n_targets] the row of raw_only()'s batch that predicts the same target; itself where there
  /// are no gists.
  Tensor raw_rows;
  /// [n_targets] bool: targets behind the prefix.
  Tensor in_suffix;
  Tensor offsets;       // [n_sequences + 1] int32: first row of each sequence, and n_rows
  int64_t longest = 0;  // rows of a sequence
  std::vector<SequenceGroup> groups;
  /// All groups in one, for devices where that is faster. Null: they do not go together.
  GistMaskBatchPtr together;
  RoutePlan routes;  // empty unless asked for
  int64_t n_sequences = 0;
  int64_t n_raw = 0;
  uint64_t row_number = 0;  // of the first row in the data: what a micro-batch's draws go by

  int64_t n_rows() const { return ids.size(0); }
  int64_t n_targets() const { return target_rows.size(0); }
};

struct BatchOptions {
  MaskRule rule = {};
  int64_t route_queries = 0;  // of a sequence, for routing distillation; 0: none
};

/// On the CPU. Sequences are sorted so that equal layouts stand together; which sequences there
/// are, and not their order in the rows, decides the outcome.
Batch make_batch(std::span<const TrainingRow> rows, const BatchOptions& options);

/// The same sequences without their gists: what full attention reads. Its targets are the batch's
/// own, where a raw token stands before them.
Batch raw_only(const Batch& batch);

Batch to_device(const Batch& batch, torch::Device device);

}  // namespace ssa
