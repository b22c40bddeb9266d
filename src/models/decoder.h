// The decoder that Llama, Qwen2, Qwen3 and llama-nsa share; what tells them apart are a few
// switches.
#pragma once

#include <torch/nn/module.h>
#include <array>
#include <string>
#include <vector>

#include "models/causal_lm.h"
#include "nn/layers.h"
#include "nn/rotary.h"

namespace ssa {

/// Where the architectures differ inside a layer.
struct DecoderTraits {
  bool qkv_bias = false;     // Qwen2
  bool output_bias = false;  // Llama with attention_bias
  bool mlp_bias = false;     // Llama with mlp_bias
  bool qk_norm =
      false;  // Qwen3: RMS norm over head_dim of each head's q and k, before the rotation
  bool output_gate = false;  // llama-nsa: each head's output times sigmoid(g_proj(x))
};

/// Self-attention: projections, rotation, attention through the context, gate, output projection.
class SelfAttentionImpl : public torch::nn::Module {
 public:
  SelfAttentionImpl(ParameterSource& source,
                    const std::string& name,
                    const ModelConfig& config,
                    const DecoderTraits& traits);
  /// x: [n_tokens, hidden_size], normalised.
  Tensor forward(const Tensor& x,
                 const RotaryTable& rotary,
                 int64_t layer,
                 AttentionContext& attention);
  void add_low_rank_sites(const std::string& name, std::vector<LowRankSite>& sites);

 private:
  /// {q, k, v}: [n_tokens, heads, head_dim] each, q and k normalised and turned.
  std::array<Tensor, 3> project(const Tensor& x, const RotaryTable& rotary) const;

  int64_t n_heads_, n_kv_heads_, head_dim_;
  Linear q_proj_{nullptr}, k_proj_{nullptr}, v_proj_{nullptr}, o_proj_{nullptr}, g_proj_{nullptr};
  FusedLinear qkv_;
  RmsNorm q_norm_{nullptr}, k_norm_{nullptr};
};
TORCH_MODULE(SelfAttention);

/// down(silu(gate(x)) * up(x)) (arXiv 2002.05202).
class SwiGluImpl : public torch::nn::Module {
 public:
  SwiGluImpl(ParameterSource& source,
             const std::string& name,
             const ModelConfig& config,
             bool bias);
  Tensor forward(const Tensor& x);
  void add_low_rank_sites(const std::string& name, std::vector<LowRankSite>& sites);

 private:
  Linear gate_proj_{nullptr}, up_proj_{nullptr}, down_proj_{nullptr};
  FusedLinear gate_up_;
};
TORCH_MODULE(SwiGlu);

/// Pre-norm residual layer.
class DecoderLayerImpl : public torch::nn::Module {
 public:
  DecoderLayerImpl(ParameterSource& source,
                   const std::string& name,
                   const ModelConfig& config,
                   const DecoderTraits& traits);
  Tensor forward(const Tensor& x,
                 const RotaryTable& rotary,
                 int64_t layer,
                 AttentionContext& attention);
  void add_low_rank_sites(const std::string& name, std::vector<LowRankSite>& sites);

 private:
  RmsNorm input_layernorm_{nullptr}, post_attention_layernorm_{nullptr};
  SelfAttention self_attn_{nullptr};
  SwiGlu mlp_{nullptr};
};
TORCH_MODULE(DecoderLayer);

/// The whole model. Parameters carry Hugging Face's names. Built on its device; it cannot be moved
/// afterwards.
class Decoder : public CausalLM {
 public:
  /// Activations have `dtype`, whatever the parameters are held in.
  Decoder(ParameterSource& source,
          const ModelConfig& config,
          const DecoderTraits& traits,
          torch::ScalarType dtype);

  Tensor forward(const Tensor& ids, const Tensor& positions, AttentionContext& attention) override;
  Tensor logits(const Tensor& hidden) override;
  const ModelConfig& config() const override { return has_gist_rows() ? extended_ : config_; }
  torch::ScalarType dtype() const override { return dtype_; }
  torch::Device device() const override { return norm_->weight.device(); }
  const Tensor& output_weight() const override;
  Tensor output_tail() const override { return has_gist_rows() ? gist_rows_.output : Tensor(); }
  void wrap_layers(LayerWrapper wrapper) override { wrapper_ = std::move(wrapper); }
  std::vector<LowRankSite> low_rank_sites() override;
  GistRows mean_rows(int64_t n_rows, int64_t n_gists) const override;
  void attach_gist_rows(GistRows rows, std::shared_ptr<const LowRankSwitch> on) override;

 private:
  bool has_gist_rows() const { return gist_rows_.embedding.defined() && gists_are_on_->on; }
  Tensor embed(const Tensor& ids) const;

  ModelConfig config_;
  torch::ScalarType dtype_;
  LayerWrapper wrapper_;  // may be empty
  Linear embed_tokens_;   // its weight, [vocab_size, hidden_size], read by rows
  RmsNorm norm_;
  std::vector<DecoderLayer> layers_;
  Linear lm_head_{nullptr};  // null where the embedding serves (tie_word_embeddings)
  RotaryEmbedding rotary_;

  // An adapter's.
  GistRows gist_rows_;
  std::shared_ptr<const LowRankSwitch> gists_are_on_;
  ModelConfig extended_;  // config_ with these rows
};

}  // namespace ssa
