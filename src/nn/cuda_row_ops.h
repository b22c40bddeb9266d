// Row operations by our own CUDA kernels (nn/cuda/row_kernels.h), with gradients: one pass over
// memory each.
#pragma once

#include <torch/types.h>

#include <array>
#include <utility>

namespace ssa {

using torch::Tensor;

/// bf16 on CUDA, rows where kernels can load them, and kernels built in.
bool serves_rows(const Tensor& x);

/// silu(gate) * up: [n_rows, n_columns] each.
Tensor cuda_silu_times(const Tensor& gate, const Tensor& up);
/// The same of both side by side, [n_rows, 2 * n_columns].
Tensor cuda_silu_times(const Tensor& gate_up);

/// x * cos + turned(x) * sin; x [n_tokens, n_heads, head_dim], cos and sin [n_tokens, 1, head_dim],
/// without gradient.
Tensor cuda_rotate_halves(const Tensor& x, const Tensor& cos, const Tensor& sin);

/// q, k and v of rows that hold the three side by side, [n_tokens, (n_heads + 2 n_kv_heads) *
/// head_dim]: contiguous [n_tokens, heads, head_dim] each, q and k turned so.
std::array<Tensor, 3> cuda_rotate_parts(
    const Tensor& qkv, int64_t n_heads, int64_t n_kv_heads, const Tensor& cos, const Tensor& sin);

/// Such rows, [n_rows, n_columns] contiguous, that the norm's kernels hold in registers.
bool serves_norm(const Tensor& x);

/// weight * (x / rms(x)). weight [n_columns] of any float dtype; its gradient, where it asks for
/// one, is summed in float32.
Tensor cuda_rms_norm(const Tensor& x, const Tensor& weight, double eps);

/// {x, its norm}, for those who go on with both: their gradients are added up in one pass.
std::pair<Tensor, Tensor> cuda_rms_norm_beside(const Tensor& x, const Tensor& weight, double eps);

/// {x + residual, its norm}.
std::pair<Tensor, Tensor> cuda_add_rms_norm(const Tensor& x,
                                            const Tensor& residual,
                                            const Tensor& weight,
                                            double eps);

}  // namespace ssa
