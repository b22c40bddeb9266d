#include "training/step_reader.h"

#include <algorithm>

namespace ssa {
namespace {

void add(BatchCounts& sum, const BatchCounts& counts) {
  sum.targets += counts.targets;
  sum.suffix_targets += counts.suffix_targets;
  sum.sequences += counts.sequences;
  sum.raw_tokens += counts.raw_tokens;
}

BatchOptions batch_options(const ObjectiveOptions& objective) {
  return {.rule = objective.rule,
          .route_queries = objective.weights.route > 0 ? objective.route_queries : 0};
}

}  // namespace

void StepReader::start(uint64_t first_row) {
  next_ = std::async(std::launch::async, [this, first_row] { return read(first_row); });
}

StepBatches StepReader::read(uint64_t first_row) const {
  const TrainingSettings& training = recipe_.training;
  const int64_t n = training.global_batch_size / n_processes_;
  const int64_t micro = training.micro_batch_size > 0 ? std::min(n, training.micro_batch_size) : n;
  const BatchOptions options = batch_options(recipe_.objective);
  const uint64_t own = first_row + static_cast<uint64_t>(rank_ * n);
  StepBatches step;
  for (int64_t begin = 0; begin < n; begin += micro) {
    std::vector<TrainingRow> rows;
    for (int64_t i = begin; i < std::min(n, begin + micro); ++i) {
      rows.push_back(data_.row(own + static_cast<uint64_t>(i)));
    }
    step.micro.push_back(make_batch(rows, options));
    step.micro.back().row_number = own + static_cast<uint64_t>(begin);
    add(step.counts, count(step.micro.back()));
  }
  return step;
}

}  // namespace ssa
