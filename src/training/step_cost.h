// What a training step asks of the machine, for the log.
#pragma once

#include "checkpoint/model_config.h"
#include "training/batch.h"

namespace ssa {

/// Floating-point operations a second that the share which is reached is told of. `tflops`: 0 goes
/// by the CUDA device's name. 0: not known, as on the CPU.
double peak_flops(torch::Device device, double tflops);

/// Bytes: of the process on the CPU, else the most that LibTorch has handed out of the device's.
uint64_t peak_memory(torch::Device device);

/// Floating-point operations of a batch's forward and backward passes: 6 a weight and token, 12 a
/// channel and pair that attends. has_gists: under the gist mask.
double flops_of(const Batch& batch, const ModelConfig& config, double n_weights, bool has_gists);

}  // namespace ssa
