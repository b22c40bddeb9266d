#include "checkpoint/expected_tensors.h"

#include "base/error.h"
#include "base/text.h"

namespace ssa {
namespace {

class TensorList {
 public:
  explicit TensorList(const ModelConfig& config) : config_(config) {}

  std::vector<ExpectedTensor> build() {
    add("model.embed_tokens.weight", {config_.vocab_size, config_.hidden_size});
    for (int64_t i = 0; i < config_.n_layers; ++i) {
      add_layer("model.layers." + std::to_string(i) + ".");
    }
    add("model.norm.weight", {config_.hidden_size});
    if (!config_.tie_word_embeddings) {
      add("lm_head.weight", {config_.vocab_size, config_.hidden_size});
    }
    return std::move(tensors_);
  }

 private:
  void add(std::string name, std::vector<int64_t> shape) {
    tensors_.push_back({std::move(name), std::move(shape)});
  }

  void add_linear(const std::string& name, int64_t out_features, int64_t in_features, bool bias) {
    add(name + ".weight", {out_features, in_features});
    if (bias) {
      add(name + ".bias", {out_features});
    }
  }

  void add_layer(const std::string& layer) {
    add(layer + "input_layernorm.weight", {config_.hidden_size});
    add_attention(layer + "self_attn.");
    add(layer + "post_attention_layernorm.weight", {config_.hidden_size});
    const int64_t hidden = config_.hidden_size;
    const int64_t inner = config_.intermediate_size;
    add_linear(layer + "mlp.gate_proj", inner, hidden, config_.mlp_bias);
    add_linear(layer + "mlp.up_proj", inner, hidden, config_.mlp_bias);
    add_linear(layer + "mlp.down_proj", hidden, inner, config_.mlp_bias);
  }

  void add_attention(const std::string& attention) {
    const int64_t hidden = config_.hidden_size;
    const int64_t q_size = config_.n_heads * config_.head_dim;
    const int64_t kv_size = config_.n_kv_heads * config_.head_dim;
    add_linear(attention + "q_proj", q_size, hidden, config_.attention_bias);
    add_linear(attention + "k_proj", kv_size, hidden, config_.attention_bias);
    add_linear(attention + "v_proj", kv_size, hidden, config_.attention_bias);
    if (config_.architecture == Architecture::kQwen3) {
      add(attention + "q_norm.weight", {config_.head_dim});
      add(attention + "k_norm.weight", {config_.head_dim});
    }
    if (config_.architecture == Architecture::kLlamaNsa) {
      // Three gates a head (compressed, selected, window).
      add(attention + "g_proj.weight", {3 * config_.n_heads, hidden});
    }
    add_linear(attention + "o_proj", hidden, q_size, config_.attention_output_bias);
  }

  const ModelConfig& config_;
  std::vector<ExpectedTensor> tensors_;
};

}  // namespace

std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config) {
  return TensorList(config).build();
}

void check_tensors(const Checkpoint& checkpoint) {
  constexpr size_t kListed = 3;
  std::vector<std::string> wrong;
  size_t n_wrong = 0;
  for (const ExpectedTensor& expected : expected_tensors(checkpoint.config())) {
    const bool present = checkpoint.has_tensor(expected.name);
    if (present && checkpoint.tensor_shape(expected.name) == expected.shape) {
      continue;
    }
    if (++n_wrong <= kListed) {
      const std::string found =
          present ? format_shape(checkpoint.tensor_shape(expected.name)) : "nothing";
      wrong.push_back(
          concat(expected.name, ": expected ", format_shape(expected.shape), ", found ", found));
    }
  }
  const std::string more = n_wrong > kListed ? concat("; and ", n_wrong - kListed, " more") : "";
  check(n_wrong == 0,
        "the checkpoint does not hold the ",
        architecture_name(checkpoint.config().architecture),
        " model of its configuration: ",
        join(wrong, "; "),
        more);
}

std::string format_shape(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t size : shape) {
    text.append(text.size() > 1 ? ", " : "").append(std::to_string(size));
  }
  return text + "]";
}

}  // namespace ssa
