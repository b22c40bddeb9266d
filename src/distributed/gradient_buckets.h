// Where to cut flat gradients into pieces that are reduced each in one go.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace ssa {

using torch::Tensor;

/// Parameters whose gradients lie one behind the other in one flat tensor.
struct FlatGradients {
  Tensor buffer;  ///< [elements], contiguous, on the group's device
  /// In the order of their gradients in `buffer`: the first whose gradient is ready first, so that
  /// its bucket can leave first. `parameters[i].grad()` is a view into `buffer`.
  std::vector<Tensor> parameters;
};

struct GradientBucket {
  Tensor gradients;  ///< a slice of a buffer
  std::vector<Tensor> parameters;
};

/// Cuts every buffer, all of it, into buckets of whole parameters; a bucket is full when it reaches
/// `bucket_bytes`. Throws Error if a parameter's gradient is not a contiguous view into its buffer,
/// behind that of the parameter before it.
std::vector<GradientBucket> cut_into_buckets(const std::vector<FlatGradients>& gradients,
                                             int64_t bucket_bytes);

}  // namespace ssa
