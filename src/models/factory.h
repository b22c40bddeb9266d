// From a checkpoint to a model.
#pragma once

#include <memory>

#include "base/progress.h"
#include "checkpoint/checkpoint.h"
#include "models/causal_lm.h"

namespace ssa {

/// How matrices are held: as numbers of the model's dtype, or in 8 bits (nn/packed_matrix.h).
enum class WeightKind { kAsDtype, kInt8 };

struct LoadOptions {
  torch::ScalarType dtype = torch::kFloat32;  // f32, bf16 or f64
  WeightKind weights = WeightKind::kAsDtype;  // kInt8: on the CPU, in f32 or bf16
  torch::Device device = torch::kCPU;
  ProgressFn progress = {};  // in bytes of parameters
};

/// Builds the model and reads its parameters. Names, shapes and the memory they need are checked
/// before anything is read. Throws Error naming the tensor, what was expected and what was found;
/// or the option that device or dtype lack.
std::shared_ptr<CausalLM> load_model(const Checkpoint& checkpoint, const LoadOptions& options = {});

/// Bytes of a model's parameters, held so.
uint64_t parameter_bytes(const ModelConfig& config,
                         torch::ScalarType dtype,
                         WeightKind weights = WeightKind::kAsDtype);
/// Number of a model's parameters.
uint64_t parameter_count(const ModelConfig& config);

}  // namespace ssa
