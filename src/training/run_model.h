// The model of a training run: what is trained, and what data and checkpoints must know of it.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "data/training_data.h"
#include "models/causal_lm.h"
#include "training/optimizer.h"
#include "training/recipe.h"
#include "training/run_adapter.h"

namespace ssa {

struct RunModel {
  std::shared_ptr<const Checkpoint> source;  // configuration and tokenizer, as they are saved
  std::shared_ptr<CausalLM> model;
  std::optional<RunAdapter> adapter;       // absent: all weights are trained
  std::vector<NamedParameter> parameters;  // that are trained: they ask for gradients
  /// That a token is multiplied with, as flops_of() counts them: frozen ones have no gradient, and
  /// count as two thirds.
  double n_weights = 0;

  /// Null where all weights are trained.
  std::shared_ptr<LowRankSwitch> adapter_switch() const;
  const Adapter* adapter_or_null() const { return adapter ? adapter->adapter.get() : nullptr; }
};

/// The recipe's model, or the weights (or the adapter) of `init_from` unless that is empty. Throws
/// Error for what does not load, and for sequences longer than the model's positions.
RunModel load_run_model(const Recipe& recipe,
                        const std::filesystem::path& init_from,
                        torch::Device device);

/// The recipe's teacher, frozen; null: it names none. Throws Error if its vocabulary does not fit.
std::shared_ptr<CausalLM> load_teacher(const Recipe& recipe, const RunModel& run);

/// What rows are made of. Throws Error if the recipe lays gists and the model has none.
DataVocabulary run_vocabulary(const Recipe& recipe, const Checkpoint& source);

}  // namespace ssa
