// Rotary position embedding, with the length extensions that published checkpoints use.
#pragma once

#include <torch/types.h>

#include "checkpoint/model_config.h"

namespace ssa {

using torch::Tensor;

/// cos and sin of each token's angles, ready for apply_rotary. Both [n_tokens, 1, head_dim].
struct RotaryTable {
  Tensor cos, sin;
};

/// Frequencies of one model. Everything is computed in float32, as checkpoints were trained with,
/// and only then cast: in float64 models the angles keep float32's rounding. Immutable.
class RotaryEmbedding {
 public:
  /// Sources: default, linear, llama3 and yarn as transformers' modeling_rope_utils defines them
  /// (arXiv 2104.09864, 2309.00071). `max_position_embeddings` stands in where the scaling names no
  /// original length.
  RotaryEmbedding(const RopeConfig& config,
                  int64_t head_dim,
                  int64_t max_position_embeddings,
                  torch::Device device);

  /// positions: [n_tokens] int64.
  RotaryTable table(const Tensor& positions, torch::ScalarType dtype) const;

  const Tensor& inverse_frequencies() const { return inverse_frequencies_; }  // [head_dim / 2] f32
  double attention_factor() const { return attention_factor_; }

 private:
  Tensor inverse_frequencies_;
  double attention_factor_ = 1.0;  // on cos and sin (yarn)
};

/// x [n_tokens, n_heads, head_dim] rotated; dimension i pairs with i + head_dim / 2 (Hugging Face's
/// order).
Tensor apply_rotary(const Tensor& x, const RotaryTable& table);

}  // namespace ssa
