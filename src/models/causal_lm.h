// What the rest of the program knows of a model.
#pragma once

#include <torch/torch.h>

#include <functional>

#include "attention/attention.h"
#include "checkpoint/model_config.h"

namespace ssa {

/// A decoder that predicts the next token. It knows tokens, positions and projections; which keys a
/// query attends, and where they are kept, is the AttentionContext's affair. Tokens of several
/// sequences may lie in one call, one behind the other, if the context can tell them apart.
///
/// forward() is safe from several threads with a context each, as long as nobody changes
/// parameters.
class CausalLM : public torch::nn::Module {
 public:
  /// One layer, from the hidden states it is given to those it leaves.
  using LayerFn = std::function<Tensor(const Tensor&)>;
  /// Runs a layer in the place of the model, whole: to keep its output, or to compute it again in
  /// the backward pass.
  using LayerWrapper = std::function<Tensor(int64_t layer, const Tensor& x, const LayerFn& run)>;

  /// Final hidden states, normalised: [n_tokens, hidden_size].
  virtual Tensor forward(const Tensor& ids,        // [n_tokens] int64
                         const Tensor& positions,  // [n_tokens] int64, rotary positions
                         AttentionContext& attention) = 0;
  /// Next-token logits of such states: [n_rows, vocab_size], in the model's dtype.
  virtual Tensor logits(const Tensor& hidden) = 0;

  // For training; a model that only predicts has neither.
  /// What hidden states are multiplied with to give logits: [vocab_size, hidden_size].
  virtual const Tensor& output_weight() const {
    TORCH_CHECK(false, "this model cannot be trained");
  }
  /// From now on layers run through `wrapper`; empty: as they are.
  virtual void wrap_layers(LayerWrapper) { TORCH_CHECK(false, "this model cannot be trained"); }

  virtual const ModelConfig& config() const = 0;
  /// Of hidden states and logits.
  virtual torch::ScalarType dtype() const = 0;
  virtual torch::Device device() const = 0;
};

}  // namespace ssa
