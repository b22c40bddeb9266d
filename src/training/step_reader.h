// A step's rows as batches, read ahead.
#pragma once

#include <future>
#include <vector>

#include "data/training_data.h"
#include "training/batch.h"
#include "training/objective.h"
#include "training/recipe.h"

namespace ssa {

/// What one process computes in a step, on the CPU.
struct StepBatches {
  std::vector<Batch> micro;
  BatchCounts counts;  // of this process
};

/// Reads one process's share of a global batch in a thread of its own, while the step before is
/// computed. Refers to recipe and data. Not thread-safe.
class StepReader {
 public:
  StepReader(const Recipe& recipe, const TrainingData& data, int rank, int n_processes)
      : recipe_(recipe), data_(data), rank_(rank), n_processes_(n_processes) {}

  /// Begins with the step whose global batch starts at row `first_row`.
  void start(uint64_t first_row);
  /// What start() began. Throws Error as reading did.
  StepBatches take() { return next_.get(); }

 private:
  StepBatches read(uint64_t first_row) const;

  const Recipe& recipe_;
  const TrainingData& data_;
  const int rank_, n_processes_;
  std::future<StepBatches> next_;
};

}  // namespace ssa
