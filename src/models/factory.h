// From a checkpoint to a model.
#pragma once

#include <memory>

#include "base/progress.h"
#include "checkpoint/checkpoint.h"
#include "models/causal_lm.h"

namespace ssa {

struct LoadOptions {
  torch::ScalarType dtype = torch::kFloat32;  // f32, bf16 or f64
  torch::Device device = torch::kCPU;
  ProgressFn progress = {};  // in bytes of parameters
};

/// Builds the model and reads its parameters. Names, shapes and the memory they need are checked before anything is
/// read. Throws Error naming the tensor, what was expected and what was found.
std::shared_ptr<CausalLM> load_model(const Checkpoint& checkpoint, const LoadOptions& options = {});

/// Bytes of a model's parameters in that dtype.
uint64_t parameter_bytes(const ModelConfig& config, torch::ScalarType dtype);
/// Number of a model's parameters.
uint64_t parameter_count(const ModelConfig& config);

}  // namespace ssa
