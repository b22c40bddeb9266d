// Sums gradients over processes while the backward pass still runs.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "distributed/gradient_buckets.h"
#include "distributed/process_group.h"

namespace ssa {

/// Seconds, added up over all steps.
struct ReductionTimes {
  double under_way = 0;  ///< reductions, from the start of each to its end, overlaps counted once
  double blocked = 0;    ///< spent waiting for them in finish() (on CUDA: by the device)
  int64_t steps = 0;
  /// The share of the reductions that the backward pass hid; 1 if there were none.
  double hidden_share() const;
};

struct GradientReducerOptions {
  int64_t bucket_bytes = 25 * 1024 * 1024;
};

/// Data-parallel reduction in buckets: the sum of a bucket starts as soon as its last gradient is
/// there, always in order of buckets. A training step is
///
///     backward of all micro-batches but the last
///     reducer.begin()
///     backward of the last micro-batch        (reductions start within)
///     reducer.finish(1.0 / tokens)
///
/// Between begin() and finish() no other operation of the group may be called. Parameters that get
/// no gradient in a step are reduced in finish(). The gradients must stay the same views: clear
/// them with buffer.zero_(), never by unsetting grad. A parameter has room for one reducer. Not
/// thread-safe, but backward may run in autograd's threads. One process: finish() only scales.
class GradientReducer {
 public:
  /// Throws Error if a parameter's gradient is not a contiguous view into its buffer, behind that
  /// of the parameter before it. Gaps between them are reduced as well.
  GradientReducer(std::shared_ptr<ProcessGroup> group,
                  const std::vector<FlatGradients>& gradients,
                  const GradientReducerOptions& options = {});
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  /// The next backward pass is the step's last. It throws Error if it reaches a parameter twice
  /// (two calls of backward).
  void begin();
  /// Finishes all reductions and multiplies the sums by `scale`. Without begin() before it, reduces
  /// everything here. Throws Error if a process is gone.
  void finish(double scale);

  int64_t bucket_count() const;
  /// Of the finish() calls so far; on CUDA waits for the device.
  ReductionTimes times();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ssa
