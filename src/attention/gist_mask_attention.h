// Attention under the gist mask with gradients, in memory linear in the sequence's length: what
// training and LibTorch's prefill call. The dense mask is the tests' oracle alone.
#pragma once

#include "attention/gist_mask_plan.h"

namespace ssa {

/// Several sequences of one layout, one behind the other. Gradients flow to q, k and v; on the CPU
/// they are the same in every run, bit by bit. bf16 on CUDA goes through cuDNN, the CPU through
/// LibTorch's flash attention, f32 and f64 on CUDA through plain products. Returns [n_sequences *
/// plan.n_tokens, n_heads, head_dim].
Tensor gist_mask_attention(const Tensor& q,  // [n_sequences * plan.n_tokens, n_heads, head_dim]
                           const Tensor& k,  // [.., n_kv_heads, head_dim]
                           const Tensor& v,  // as k
                           const GistMaskPlanPtr& plan,
                           double scale);

}  // namespace ssa
