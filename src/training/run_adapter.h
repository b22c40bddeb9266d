// The adapter of a training run: base and adapter as the run sees them.
#pragma once

#include <filesystem>
#include <memory>

#include "checkpoint/checkpoint.h"
#include "models/adapter.h"
#include "training/recipe.h"

namespace ssa {

struct RunAdapter {
  std::shared_ptr<Adapter> adapter;  // its parameters float32 or wider; they alone are trained
  /// The base's configuration and tokenizer, with the gists where the adapter brings them.
  std::shared_ptr<const Checkpoint> source;
  Json gist_config;  // what is saved beside the adapter

  double n_base_weights = 0;  // frozen ones that a token is multiplied with
};

/// Puts the recipe's adapter onto the model: fresh, or where `init_from` is not empty the one
/// there. Throws Error for a base with gists of its own, and for an adapter that is not the
/// recipe's.
RunAdapter make_run_adapter(const Recipe& recipe,
                            std::shared_ptr<const Checkpoint> base,
                            CausalLM& model,
                            const std::filesystem::path& init_from);

}  // namespace ssa
