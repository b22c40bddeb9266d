// AdamW over flat gradients, its state shared out over the processes.
#pragma once

#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "distributed/gradient_buckets.h"
#include "distributed/process_group.h"

namespace ssa {

using torch::Tensor;

struct NamedParameter {
  std::string name;
  Tensor tensor;  // contiguous
};

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;  // of matrices alone
};

/// Decoupled weight decay (arXiv 1711.05101), by LibTorch's fused kernel. All parameters have one
/// dtype, float32 or float64, and one device; their gradients become views into one flat buffer,
/// and must stay so. With several processes each holds the moments of an equal share of all
/// numbers, updates that share, and gathers the others'. Not thread-safe.
class AdamW {
 public:
  /// Parameters in the order of the forward pass.
  AdamW(std::vector<NamedParameter> parameters,
        const AdamWOptions& options,
        std::shared_ptr<ProcessGroup> group);

  const FlatGradients& gradients() const { return gradients_; }
  void zero_grad() { gradients_.buffer.zero_(); }
  /// Scales gradients down to a norm of max_norm where it is larger (0: never); returns the norm
  /// before that. Not finite where a gradient is not, and then nothing is scaled.
  double clip(double max_norm);
  /// One update with the gradients as they are. All processes must call it.
  void step(double lr);

  int64_t steps() const { return n_steps_; }
  /// First and second moments of all parameters, each [n numbers], on the CPU; the same for any
  /// number of processes. All must call it.
  std::pair<Tensor, Tensor> moments();
  void restore(int64_t steps, const Tensor& first, const Tensor& second);

 private:
  /// The part of one parameter that lies in this process's share.
  struct Slice {
    Tensor parameter, gradient, first, second;
    bool decays;
  };
  void share_parameters();
  Tensor gather(const Tensor& share);

  std::vector<NamedParameter> parameters_;  // as in the flat buffer: backward's order
  AdamWOptions options_;
  std::shared_ptr<ProcessGroup> group_;
  FlatGradients gradients_;
  int64_t n_numbers_ = 0, share_size_ = 0, share_begin_ = 0;
  Tensor first_, second_;  // [share_size]
  std::vector<Slice> slices_;
  int64_t n_steps_ = 0;
};

}  // namespace ssa
