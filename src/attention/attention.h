// How queries find their keys: the seam between models, which know projections, and the ways of
// attending, which know caches, layouts and selections.
#pragma once

#include <torch/types.h>

namespace ssa {

using torch::Tensor;

/// One layer's projections of the tokens at hand, rotary embedding applied to q and k. All of one
/// dtype and device.
struct AttentionInput {
  Tensor q;  // [n_tokens, n_heads, head_dim]
  Tensor k;  // [n_tokens, n_kv_heads, head_dim]
  Tensor v;  // [n_tokens, n_kv_heads, head_dim]
  double scale = 1.0;
};

/// What a model calls once a layer, layers in order. Implementations own or refer to the keys and
/// values of earlier tokens. Not thread-safe: one context serves one forward pass at a time.
class AttentionContext {
 public:
  virtual ~AttentionContext() = default;
  /// [n_tokens, n_heads, head_dim]
  virtual Tensor attend(int64_t layer, const AttentionInput& in) = 0;
  /// The same for a model with gates (llama-nsa): each head's output times its gate. gates:
  /// [n_tokens, n_heads, 3], after the sigmoid: those of NSA's compressed branch, of the selected
  /// blocks, and of the window. Attention of one branch takes the middle one.
  virtual Tensor attend_gated(int64_t layer, const AttentionInput& in, const Tensor& gates) {
    return attend(layer, in) * gates.slice(-1, 1, 2);
  }
};

/// The heads of a group share their key/value head: query head h reads key/value head h / (n_heads
/// / n_kv_heads). Keys and values are head-major, as caches keep them.
///
/// Causal softmax attention over all keys: query row i stands at key index n_keys - n_tokens + i
/// and sees keys up to and including itself. n_keys >= n_tokens.
Tensor dense_attention(const Tensor& q,  // [n_tokens, n_heads, head_dim]
                       const Tensor& k,  // [n_kv_heads, n_keys, head_dim]
                       const Tensor& v,  // [n_kv_heads, n_keys, head_dim]
                       double scale);

/// Softmax attention under a mask, true = visible. A query that sees nothing gives 0.
Tensor masked_attention(const Tensor& q,     // [n_tokens, n_heads, head_dim]
                        const Tensor& k,     // [n_kv_heads, n_keys, head_dim]
                        const Tensor& v,     // [n_kv_heads, n_keys, head_dim]
                        const Tensor& mask,  // [n_tokens, n_keys] bool
                        double scale);

/// Softmax attention of each query over the keys its list names, whoever chose them. A query whose
/// list is empty gives 0.
Tensor sparse_attention(
    const Tensor& q,        // [n_tokens, n_heads, head_dim]
    const Tensor& k,        // [n_kv_heads, n_keys, head_dim]
    const Tensor& v,        // [n_kv_heads, n_keys, head_dim]
    const Tensor& indices,  // [n_tokens, n_kv_heads, n_chosen] int64, padded with -1, each key once
    double scale);

}  // namespace ssa
