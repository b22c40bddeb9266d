// Attention over a part of a query's keys, with what is needed to merge it with other parts,
// forward and backward.
//
// A query's softmax over the union of disjoint sets of keys follows from the outputs and
// log-sum-exps over each set:
//
//   lse = log sum exp lse_i        out = sum exp(lse_i - lse) out_i
//
// The backward pass of each part, given the merged out and lse in place of its own, yields exactly
// that part's share of the gradients: with p = exp(s - lse) and delta = d_out . out, ds = p (d_out
// . v - delta) needs nothing else of other parts.
#pragma once

#include <torch/types.h>

namespace ssa {

using torch::Tensor;

/// Hides a key where scores are of ordinary size: exp of it is 0 in every dtype, and bf16 holds it
/// exactly.
inline constexpr double kHiddenScore = -65536.0;

/// One dense problem. All of one dtype and device; the last dimension is contiguous, other strides
/// are free.
struct PartialInput {
  Tensor q;  // [n_batch, n_heads, n_rows, head_dim]
  Tensor k;  // [n_batch, n_kv_heads, n_keys, head_dim]; n_kv_heads is n_heads or 1
  Tensor v;  // as k
  /// Added to the scores, in q's dtype: 0, or -infinity or kHiddenScore; undefined: none.
  /// Broadcasts to [n_batch, n_heads, n_rows, n_keys]. Every row must see a key.
  Tensor bias;
  bool is_causal = false;  // row i sees keys [0, i]; without bias, n_rows == n_keys
  double scale = 1.0;
  /// The bias hides by kHiddenScore alone: cuDNN, which fails on -infinity, may serve.
  bool bias_is_finite = false;
  /// Many problems of a few rows and keys each: plain products serve them best.
  bool is_tiny = false;
};

/// Such a bias of a bool mask, true = visible, by kHiddenScore. Its rows start where kernels can
/// load them.
Tensor visible_bias(const Tensor& visible, torch::ScalarType dtype);

/// A bias whose rows start at multiples of 8 elements: itself, or a copy with room behind its rows.
Tensor with_aligned_rows(const Tensor& bias);

struct PartialOutput {
  Tensor out;  // as q
  Tensor lse;  // [n_batch, n_heads, n_rows] float32, float64 for float64: natural logarithm
};

PartialOutput partial_attention(const PartialInput& in);

struct PartialGradients {
  Tensor q, k, v;  // as the input's
};

/// Gradients through this part, where `merged` is what all parts together gave.
PartialGradients partial_attention_backward(const PartialInput& in,
                                            const PartialOutput& merged,
                                            const Tensor& d_out);  // as q

}  // namespace ssa
