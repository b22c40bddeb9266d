// What a checkpoint says of block-sparse attention once it is trained for it.
#pragma once

#include <memory>

#include "checkpoint/checkpoint.h"
#include "training/sparse_sparse.h"

namespace ssa {

/// The checkpoint, its llama-nsa configuration brought in line with the objective: block_size,
/// block_counts, window_size (NSA's, else 0) and inference_mode (full for full attention alone).
/// Other architectures have no keys for that and stay as they are. Throws Error for NSA on a model
/// without gates.
std::shared_ptr<const Checkpoint> with_sparse_settings(std::shared_ptr<const Checkpoint> source,
                                                       const SparseSparseOptions& options);

}  // namespace ssa
