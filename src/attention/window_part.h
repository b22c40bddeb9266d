// The near part of the gist mask with one level, on LibTorch's tensors: our own CUDA kernels
// (attention/cuda/window_attention.h), or, as their reference and for tests, plain products.
#pragma once

#include <torch/types.h>

namespace ssa {

using torch::Tensor;

/// Row t of a sequence that starts at s sees rows [begin[t], t], and [s, s + n_sinks) as far as
/// they lie before begin[t].
struct Windows {
  Tensor begin;    // [n] int32, counted in the whole
  Tensor offsets;  // [n_sequences + 1] int32: first row of each sequence, and n
  int64_t n_sinks = 0;
};

/// bf16 on CUDA, sinks and head sizes that the kernels serve, and kernels built in.
bool serves_windows(const Tensor& q, int64_t n_sinks);

/// Sequences one behind the other. All contiguous, of one dtype and device.
struct WindowTensors {
  Tensor q;  // [n, n_heads, head_dim]
  Tensor k;  // [n, n_kv_heads, head_dim]
  Tensor v;
  double scale = 1.0;
};

/// Adds windows and sinks to what the bank gave, in place: out [n, n_heads, head_dim], lse [n,
/// n_heads] float32 or better, -infinity where nothing was seen.
void attend_windows(const WindowTensors& in,
                    const Windows& windows,
                    const Tensor& out,
                    const Tensor& lse);

struct WindowGradients {
  Tensor k, v;  // [n, n_kv_heads, head_dim] float32 or better
};

/// Gradients through windows and sinks; d_q, [n, n_heads, head_dim], holds the bank's share and
/// gets theirs added.
WindowGradients windows_backward(const WindowTensors& in,
                                 const Windows& windows,
                                 const Tensor& out,
                                 const Tensor& lse,
                                 const Tensor& d_out,
                                 const Tensor& d_q);

}  // namespace ssa
