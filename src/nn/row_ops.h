// What a decoder does between its matrices.
//
// What wants no gradient, on the CPU, in float32 or bfloat16, takes one pass over each row
// (nn/cpu/row_kernels.h); all else takes LibTorch's operations, which are the reference: decoding
// one token of a small model would otherwise spend more time on starting operations than on its
// weights, and reading a prompt a sixth of its time on passes between matrices.
#pragma once

#include <torch/types.h>

#include <array>
#include <utility>

namespace ssa {

using torch::Tensor;

/// x / rms(x) * weight over the last dimension, of two or three; the mean square is taken in
/// float32 or better. weight may be wider than x, and is then rounded to it.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps);

/// {x, its rms_norm()}: where a layer reads the residual stream and goes on with it.
std::pair<Tensor, Tensor> rms_norm_beside(const Tensor& x, const Tensor& weight, double eps);

/// {x + y, its rms_norm()}: where a layer adds to the residual stream and reads it again.
std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x,
                                       const Tensor& y,
                                       const Tensor& weight,
                                       double eps);

/// silu(gate) * up, both [n_tokens, n].
Tensor silu_times(const Tensor& gate, const Tensor& up);
/// The same of both side by side, [n_tokens, 2 * n], as one product gives them; its gradient is one
/// matrix too.
Tensor silu_times(const Tensor& gate_up);

/// x + y, of one shape.
Tensor add_rows(const Tensor& x, const Tensor& y);

/// x [n_tokens, n_heads, head_dim], each head's dimension i turned with i + head_dim / 2 by cos and
/// sin [n_tokens, 1, head_dim].
Tensor rotate_halves(const Tensor& x, const Tensor& cos, const Tensor& sin);

/// q, k and v of rows that hold the three side by side, [n_tokens, (n_heads + 2 n_kv_heads) *
/// head_dim], as one product gives them: [n_tokens, heads, head_dim] each, q and k turned as
/// rotate_halves().
std::array<Tensor, 3> rotate_parts(
    const Tensor& qkv, int64_t n_heads, int64_t n_kv_heads, const Tensor& cos, const Tensor& sin);

}  // namespace ssa
