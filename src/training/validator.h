// Perplexity of held-out rows while a run trains.
#pragma once

#include <memory>
#include <vector>

#include "data/training_data.h"
#include "distributed/process_group.h"
#include "training/objective.h"
#include "training/recipe.h"

namespace ssa {

/// Suffixes of the same rows every time, in every mode of attention that the recipe names. Refers
/// to recipe, objective and group. Not thread-safe.
class Validator {
 public:
  /// `adapter`: switched off for the mode that is the base; null: none. Throws Error for sources
  /// that cannot be read.
  Validator(const Recipe& recipe,
            const DataVocabulary& words,
            Objective& objective,
            std::shared_ptr<LowRankSwitch> adapter,
            ProcessGroup& group);

  /// In the order of the recipe's modes. Every process calls it: they take rows in turn.
  std::vector<double> perplexities();

 private:
  /// Of mode i: the sum of negative log-likelihoods at 2i, and the number of targets behind it.
  std::vector<double> own_sums();

  const Recipe& recipe_;
  TrainingData data_;
  Objective& objective_;
  std::shared_ptr<LowRankSwitch> adapter_;
  ProcessGroup& group_;
};

}  // namespace ssa
