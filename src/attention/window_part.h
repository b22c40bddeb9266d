// The near part of the gist mask by our own CUDA kernels (attention/cuda/window_attention.h), on
// LibTorch's tensors.
#pragma once

#include "attention/gist_mask_plan.h"

namespace ssa {

/// bf16 on CUDA, one level, sinks and head sizes that the kernels serve, and kernels built in.
bool serves_windows(const Tensor& q, const GistMaskPlan& plan);

/// Sequences of one plan, one behind the other. All contiguous and bf16 unless said otherwise.
struct WindowTensors {
  Tensor q;  // [n, n_heads, head_dim]
  Tensor k;  // [n, n_kv_heads, head_dim]
  Tensor v;
  double scale = 1.0;
};

/// Adds the window and the sinks to what the bank gave, in place: out [n, n_heads, head_dim], lse
/// [n, n_heads] float32, -infinity where nothing was seen.
void attend_windows(const WindowTensors& in,
                    const GistMaskPlan& plan,
                    const Tensor& out,
                    const Tensor& lse);

struct WindowGradients {
  Tensor k, v;  // [n, n_kv_heads, head_dim] float32
};

/// Gradients through the window and the sinks; d_q, [n, n_heads, head_dim], holds the bank's share
/// and gets theirs added.
WindowGradients windows_backward(const WindowTensors& in,
                                 const GistMaskPlan& plan,
                                 const Tensor& out,
                                 const Tensor& lse,
                                 const Tensor& d_out,
                                 const Tensor& d_q);

}  // namespace ssa
