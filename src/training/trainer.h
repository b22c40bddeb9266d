// A training run: steps, logs, validation, checkpoints.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "distributed/process_group.h"
#include "training/recipe.h"

namespace ssa {

struct TrainerOptions {
  bool resume = false;  // from the newest whole checkpoint in job.output; none: an error
  std::filesystem::path
      init_from;  // weights of this checkpoint, with a fresh optimiser and schedule
  /// Set from a signal handler: the run writes a checkpoint after the step at hand, and ends.
  const std::atomic<bool>* stop = nullptr;
  /// Told a line now and then (rank 0).
  std::function<void(const std::string& line)> on_line;
  /// Told after every step (rank 0).
  std::function<void(int64_t step, int64_t total)> on_step;
};

struct TrainingResult {
  int64_t steps = 0;  // done in all
  std::filesystem::path checkpoint;
  bool stopped = false;  // by the signal
};

/// Runs the recipe to its end. Every process of the group calls it with the same recipe. Throws
/// Error in one line for what the recipe, the data or the machine get wrong; where the loss is not
/// finite or explodes it says the step and names the last good checkpoint.
TrainingResult train(const Recipe& recipe,
                     const TrainerOptions& options,
                     std::shared_ptr<ProcessGroup> group);

/// The device that a recipe means: "cpu", "cuda", or "auto": CUDA where there is one.
torch::Device training_device(const std::string& name);

}  // namespace ssa
