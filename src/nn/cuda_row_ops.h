// Row operations by our own CUDA kernels (nn/cuda/row_kernels.h), with gradients: one pass over
// memory each.
#pragma once

#include <torch/torch.h>

#include <utility>

namespace ssa {

using torch::Tensor;

/// bf16 on CUDA, rows where kernels can load them, and kernels built in.
bool serves_rows(const Tensor& x);

/// silu(gate) * up: [n_rows, n_columns] each.
Tensor cuda_silu_times(const Tensor& gate, const Tensor& up);

/// x * cos + turned(x) * sin; x [n_tokens, n_heads, head_dim], cos and sin [n_tokens, 1, head_dim],
/// without gradient.
Tensor cuda_rotate_halves(const Tensor& x, const Tensor& cos, const Tensor& sin);

/// Such rows, [n_rows, n_columns] contiguous, that the norm's kernels hold in registers.
bool serves_norm(const Tensor& x);

/// weight * (x / rms(x)). weight [n_columns] of any float dtype; its gradient is summed in float32.
Tensor cuda_rms_norm(const Tensor& x, const Tensor& weight, double eps);

/// {x + residual, its norm}.
std::pair<Tensor, Tensor> cuda_add_rms_norm(const Tensor& x,
                                            const Tensor& residual,
                                            const Tensor& weight,
                                            double eps);

}  // namespace ssa
