// From a checkpoint to a model.
#pragma once

#include <memory>
#include <optional>

#include "base/progress.h"
#include "checkpoint/checkpoint.h"
#include "models/causal_lm.h"

namespace ssa {

/// How matrices are held: as numbers of the model's dtype, or in 8 bits (nn/packed_matrix.h).
enum class WeightKind { kAsDtype, kInt8 };

struct LoadOptions {
  torch::ScalarType dtype = torch::kFloat32;  // f32, bf16 or f64
  /// What parameters are held in, where that is wider than dtype: float32 for training in bf16.
  std::optional<torch::ScalarType> held_dtype = {};
  WeightKind weights = WeightKind::kAsDtype;  // kInt8: on the CPU, in f32 or bf16
  torch::Device device = torch::kCPU;
  /// In the place of the checkpoint's: the same shapes, other rotary embedding.
  std::optional<ModelConfig> config = {};
  ProgressFn progress = {};  // in bytes of parameters
};

/// Builds the model and reads its parameters. Names, shapes and the memory they need are checked
/// before anything is read. Throws Error naming the tensor, what was expected and what was found;
/// or the option that device or dtype lack.
std::shared_ptr<CausalLM> load_model(const Checkpoint& checkpoint, const LoadOptions& options = {});

/// A model with random parameters: normal, standard deviation 0.02 (projections into the residual
/// stream: divided by sqrt(2 * n_layers)), norms 1, biases 0. Drawn on the CPU from `seed`, so that
/// every device gets the same.
std::shared_ptr<CausalLM> make_random_model(const ModelConfig& config,
                                            uint64_t seed,
                                            const LoadOptions& options = {});

/// Bytes of a model's parameters, held so.
uint64_t parameter_bytes(const ModelConfig& config,
                         torch::ScalarType dtype,
                         WeightKind weights = WeightKind::kAsDtype);
/// Number of a model's parameters.
uint64_t parameter_count(const ModelConfig& config);

}  // namespace ssa
