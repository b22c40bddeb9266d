#include "models/decoder.h"

#include <cmath>

#include "nn/row_ops.h"

namespace ssa {

SelfAttentionImpl::SelfAttentionImpl(ParameterSource& source,
                                     const std::string& name,
                                     const ModelConfig& config,
                                     const DecoderTraits& traits)
    : n_heads_(config.n_heads), n_kv_heads_(config.n_kv_heads), head_dim_(config.head_dim) {
  const int64_t hidden = config.hidden_size;
  const int64_t n_query = config.n_heads * head_dim_, n_key = config.n_kv_heads * head_dim_;
  const auto linear = [&](const char* part, int64_t n_out, int64_t n_in, bool bias) {
    return register_module(part, Linear(source, name + "." + part, n_out, n_in, bias));
  };
  q_proj_ = linear("q_proj", n_query, hidden, traits.qkv_bias);
  k_proj_ = linear("k_proj", n_key, hidden, traits.qkv_bias);
  v_proj_ = linear("v_proj", n_key, hidden, traits.qkv_bias);
  o_proj_ = linear("o_proj", hidden, n_query, traits.output_bias);
  qkv_ = FusedLinear({q_proj_, k_proj_, v_proj_});
  if (traits.output_gate) {
    g_proj_ = linear("g_proj", 3 * config.n_heads, hidden, false);
  }
  if (traits.qk_norm) {
    const double eps = config.rms_norm_eps;
    q_norm_ = register_module("q_norm", RmsNorm(source, name + ".q_norm", head_dim_, eps));
    k_norm_ = register_module("k_norm", RmsNorm(source, name + ".k_norm", head_dim_, eps));
  }
}

std::array<Tensor, 3> SelfAttentionImpl::project(const Tensor& x, const RotaryTable& rotary) const {
  if (!q_norm_ && qkv_.is_one_product()) {
    return rotate_parts(qkv_.product(x), n_heads_, n_kv_heads_, rotary.cos, rotary.sin);
  }
  const auto heads = [&](const Tensor& t) { return t.unflatten(-1, {-1, head_dim_}); };
  const std::vector<Tensor> projected = qkv_.forward(x);
  Tensor q = heads(projected[0]), k = heads(projected[1]);
  if (q_norm_) {
    q = q_norm_->forward(q);
    k = k_norm_->forward(k);
  }
  return {apply_rotary(q, rotary), apply_rotary(k, rotary), heads(projected[2])};
}

Tensor SelfAttentionImpl::forward(const Tensor& x,
                                  const RotaryTable& rotary,
                                  int64_t layer,
                                  AttentionContext& attention) {
  auto [q, k, v] = project(x, rotary);
  const AttentionInput in{.q = std::move(q),
                          .k = std::move(k),
                          .v = std::move(v),
                          .scale = 1.0 / std::sqrt(static_cast<double>(head_dim_))};
  const Tensor out = g_proj_ ? attention.attend_gated(
                                   layer, in, g_proj_->forward(x).unflatten(-1, {-1, 3}).sigmoid())
                             : attention.attend(layer, in);
  return o_proj_->forward(out.flatten(1));
}

void SelfAttentionImpl::add_low_rank_sites(const std::string& name,
                                           std::vector<LowRankSite>& sites) {
  sites.push_back(qkv_.site({name + ".q_proj", name + ".k_proj", name + ".v_proj"}));
  sites.push_back(o_proj_->site(name + ".o_proj"));
}

SwiGluImpl::SwiGluImpl(ParameterSource& source,
                       const std::string& name,
                       const ModelConfig& config,
                       bool bias) {
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const auto linear = [&](const char* part, int64_t n_out, int64_t n_in) {
    return register_module(part, Linear(source, name + "." + part, n_out, n_in, bias));
  };
  gate_proj_ = linear("gate_proj", inner, hidden);
  up_proj_ = linear("up_proj", inner, hidden);
  down_proj_ = linear("down_proj", hidden, inner);
  gate_up_ = FusedLinear({gate_proj_, up_proj_});
}

Tensor SwiGluImpl::forward(const Tensor& x) {
  if (gate_up_.is_one_product()) {
    return down_proj_->forward(silu_times(gate_up_.product(x)));
  }
  const std::vector<Tensor> gate_up = gate_up_.forward(x);
  return down_proj_->forward(silu_times(gate_up[0], gate_up[1]));
}

void SwiGluImpl::add_low_rank_sites(const std::string& name, std::vector<LowRankSite>& sites) {
  sites.push_back(gate_up_.site({name + ".gate_proj", name + ".up_proj"}));
  sites.push_back(down_proj_->site(name + ".down_proj"));
}

DecoderLayerImpl::DecoderLayerImpl(ParameterSource& source,
                                   const std::string& name,
                                   const ModelConfig& config,
                                   const DecoderTraits& traits) {
  const auto norm = [&](const char* part) {
    return register_module(
        part, RmsNorm(source, name + "." + part, config.hidden_size, config.rms_norm_eps));
  };
  input_layernorm_ = norm("input_layernorm");
  self_attn_ =
      register_module("self_attn", SelfAttention(source, name + ".self_attn", config, traits));
  post_attention_layernorm_ = norm("post_attention_layernorm");
  mlp_ = register_module("mlp", SwiGlu(source, name + ".mlp", config, traits.mlp_bias));
}

Tensor DecoderLayerImpl::forward(const Tensor& x,
                                 const RotaryTable& rotary,
                                 int64_t layer,
                                 AttentionContext& attention) {
  const auto [residual, normed] = input_layernorm_->forward_beside(x);
  const auto [attended, normed_again] = post_attention_layernorm_->forward_sum(
      residual, self_attn_->forward(normed, rotary, layer, attention));
  return add_rows(attended, mlp_->forward(normed_again));
}

void DecoderLayerImpl::add_low_rank_sites(const std::string& name,
                                          std::vector<LowRankSite>& sites) {
  self_attn_->add_low_rank_sites(name + ".self_attn", sites);
  mlp_->add_low_rank_sites(name + ".mlp", sites);
}

Decoder::Decoder(ParameterSource& source,
                 const ModelConfig& config,
                 const DecoderTraits& traits,
                 torch::ScalarType dtype)
    : config_(config),
      dtype_(dtype),
      embed_tokens_(source, "model.embed_tokens", config.vocab_size, config.hidden_size, false),
      norm_(source, "model.norm", config.hidden_size, config.rms_norm_eps),
      rotary_(
          config.rope, config.head_dim, config.max_position_embeddings, norm_->weight.device()) {
  // Modules named so that named_parameters() gives Hugging Face's names.
  auto model = register_module("model", std::make_shared<torch::nn::Module>());
  model->register_module("embed_tokens", embed_tokens_);
  auto layers = model->register_module("layers", std::make_shared<torch::nn::Module>());
  for (int64_t i = 0; i < config.n_layers; ++i) {
    const std::string index = std::to_string(i);
    layers_.push_back(layers->register_module(
        index, DecoderLayer(source, "model.layers." + index, config, traits)));
  }
  model->register_module("norm", norm_);
  if (!config.tie_word_embeddings) {
    lm_head_ = register_module(
        "lm_head", Linear(source, "lm_head", config.vocab_size, config.hidden_size, false));
  }
}

Tensor Decoder::forward(const Tensor& ids, const Tensor& positions, AttentionContext& attention) {
  const RotaryTable table = rotary_.table(positions, dtype());
  Tensor x = embed(ids);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto layer = static_cast<int64_t>(i);
    // Refers to nothing of this call: it may run again in the backward pass.
    const auto run = [this, layer, table, context = &attention](const Tensor& in) {
      return layers_[static_cast<size_t>(layer)]->forward(in, table, layer, *context);
    };
    x = wrapper_ ? wrapper_(layer, x, run) : run(x);
  }
  return norm_->forward(x);
}

/// Rows of the model's own table; in the places of gists those of the adapter, by a product that
/// gathers their gradient too. Rows of zeros fill up to what a GPU's matrix units take at once.
Tensor Decoder::embed(const Tensor& ids) const {
  if (!has_gist_rows()) {
    return embed_tokens_->rows(ids).to(dtype_);
  }
  constexpr int64_t kUnit = 8;
  const int64_t n_own = config_.vocab_size, n_gists = extended_.vocab_size - n_own,
                n_filled = (n_gists + kUnit - 1) / kUnit * kUnit;
  const Tensor gists = torch::arange(n_own, n_own + n_filled, ids.options());
  const Tensor is_gist = ids.unsqueeze(1) == gists;  // [n_tokens, n_filled]
  const Tensor own = embed_tokens_->rows(ids.clamp_max(n_own - 1)).to(dtype_);
  return torch::addmm(
      own.masked_fill((ids >= n_own).unsqueeze(1), 0),
      is_gist.to(dtype_),
      torch::constant_pad_nd(gist_rows_.embedding.to(dtype_), {0, 0, 0, n_filled - n_gists}));
}

Tensor Decoder::logits(const Tensor& hidden) {
  const Tensor own = (lm_head_ ? lm_head_ : embed_tokens_)->forward(hidden);
  return has_gist_rows()
             ? torch::cat({own, torch::linear(hidden, gist_rows_.output.to(hidden.scalar_type()))},
                          -1)
             : own;
}

const Tensor& Decoder::output_weight() const {
  const Linear& linear = lm_head_ ? lm_head_ : embed_tokens_;
  TORCH_CHECK(!linear->packed, "the output layer is held in 8 bits");
  return linear->weight;
}

std::vector<LowRankSite> Decoder::low_rank_sites() {
  std::vector<LowRankSite> sites;
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i]->add_low_rank_sites("model.layers." + std::to_string(i), sites);
  }
  return sites;
}

GistRows Decoder::mean_rows(int64_t n_rows, int64_t n_gists) const {
  const torch::NoGradGuard no_grad;
  const auto mean = [&](const Linear& table) {
    const Tensor rows =
        table->rows(torch::arange(n_rows, torch::dtype(torch::kInt64).device(device())));
    return rows.to(torch::kFloat64)
        .mean(0, /*keepdim=*/true)
        .to(torch::promote_types(dtype_, torch::kFloat32))
        .expand({n_gists, -1})
        .contiguous();
  };
  const Tensor embedding = mean(embed_tokens_);
  return {embedding, lm_head_ ? mean(lm_head_) : embedding};
}

void Decoder::attach_gist_rows(GistRows rows, std::shared_ptr<const LowRankSwitch> on) {
  gist_rows_ = std::move(rows);
  gists_are_on_ = std::move(on);
  extended_ = config_;
  extended_.vocab_size += gist_rows_.embedding.size(0);
}

}  // namespace ssa
