// Checkpoints of a run: Hugging Face directories with the optimiser's state beside, whole or not
// there.
//
//   OUTPUT/step-000200/    config.json, model.safetensors, tokenizer files    what any other
//   program reads
//                          training.safetensors                               moments, and float32
//                          parameters of a bf16 model training.json step, rows taken, recipe
//
// Of an adapter's run: adapter_config.json, adapter_model.safetensors and gist_config.json in the
// place of the model, and its float32 parameters in training.safetensors.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "checkpoint/checkpoint.h"
#include "models/adapter.h"
#include "training/optimizer.h"

namespace ssa {

/// Where a run stands.
struct TrainingState {
  int64_t step = 0;       // steps done
  uint64_t next_row = 0;  // of the data
  double recent_loss = 0;
  std::string recipe;
};

/// A checkpoint whose tensors are a model's parameters, saved in `dtype`; everything else is the
/// source's. Refers to both.
std::unique_ptr<Checkpoint> trained_checkpoint(const Checkpoint& source,
                                               const CausalLM& model,
                                               torch::ScalarType dtype);

/// A folder's configuration and tokenizer without weights: what random initialisation starts from.
std::unique_ptr<Checkpoint> open_untrained(const std::filesystem::path& folder);

/// Writes OUTPUT/step-N, and removes all but the newest `keep` (0: none). Every process calls it;
/// rank 0 writes. Throws Error if writing fails (a full disk, say); older checkpoints are then
/// untouched. With an adapter it alone is saved, as AdapterFiles reads it, `gist_config` beside it.
void save_training_checkpoint(const std::filesystem::path& output,
                              const Checkpoint& source,
                              const CausalLM& model,
                              AdamW& optimizer,
                              const TrainingState& state,
                              int64_t keep,
                              ProcessGroup& group,
                              const Adapter* adapter = nullptr,
                              const Json& gist_config = nullptr);

/// The newest whole checkpoint of a run; nothing if there is none.
std::optional<std::filesystem::path> newest_training_checkpoint(
    const std::filesystem::path& output);

/// Puts parameters and moments back, bit by bit. Throws Error naming what does not fit.
TrainingState load_training_checkpoint(const std::filesystem::path& folder,
                                       CausalLM& model,
                                       AdamW& optimizer,
                                       const Adapter* adapter = nullptr);

}  // namespace ssa
