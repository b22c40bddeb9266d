// Attention under the gist mask with gradients, in memory linear in the sequence's length: what
// training and LibTorch's prefill call. The dense mask is the tests' oracle alone.
#pragma once

#include "attention/gist_mask_plan.h"

namespace ssa {

/// Several sequences of one layout, one behind the other; gist_mask_batch.h takes different ones.
/// Gradients flow to q, k and v; on the CPU they are the same in every run, bit by bit. On CUDA
/// bf16 with one level goes through window kernels of our own where they are built in; everything
/// else, and the bank, through LibTorch's attention (partial_attention.cpp chooses which). float64
/// on CUDA holds all scores. Returns [n_sequences * plan.n_tokens, n_heads, head_dim]; throws
/// c10::Error for shapes that do not fit the plan.
Tensor gist_mask_attention(const Tensor& q,  // [n_sequences * plan.n_tokens, n_heads, head_dim]
                           const Tensor& k,  // [.., n_kv_heads, head_dim]
                           const Tensor& v,  // as k
                           const GistMaskPlanPtr& plan,
                           double scale);

}  // namespace ssa
