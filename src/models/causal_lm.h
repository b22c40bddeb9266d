// What the rest of the program knows of a model.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <functional>
#include <memory>
#include <vector>

#include "attention/attention.h"
#include "checkpoint/model_config.h"
#include "nn/low_rank.h"

namespace ssa {

/// Rows of the vocabulary behind the model's own, for an adapter's gists: n_rows x hidden_size
/// each, on the model's device. `output` is `embedding` where the model's embedding is its output
/// layer.
struct GistRows {
  Tensor embedding;  // undefined: none
  Tensor output;
};

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
  /// Rows behind output_weight()'s: those of an adapter's gists. Undefined if there are none.
  virtual Tensor output_tail() const { return {}; }
  /// From now on layers run through `wrapper`; empty: as they are.
  virtual void wrap_layers(LayerWrapper) { TORCH_CHECK(false, "this model cannot be trained"); }

  // For adapters (models/adapter.h).
  /// Where low-rank updates may be attached, in the order of the forward pass.
  virtual std::vector<LowRankSite> low_rank_sites() {
    TORCH_CHECK(false, "this model takes no adapter");
  }
  /// Means of the first `n_rows` rows of the vocabulary, as rows of `n_gists` gists, in float32 or
  /// wider.
  virtual GistRows mean_rows(int64_t /*n_rows*/, int64_t /*n_gists*/) const {
    TORCH_CHECK(false, "this model takes no adapter");
  }
  /// From now on the vocabulary ends with `rows`, as long as the switch is on.
  virtual void attach_gist_rows(GistRows /*rows*/, std::shared_ptr<const LowRankSwitch> /*on*/) {
    TORCH_CHECK(false, "this model takes no adapter");
  }

  /// With an adapter's gists, while they are switched on, in vocab_size.
  virtual const ModelConfig& config() const = 0;
  /// Of hidden states and logits.
  virtual torch::ScalarType dtype() const = 0;
  virtual torch::Device device() const = 0;
};

}  // namespace ssa
