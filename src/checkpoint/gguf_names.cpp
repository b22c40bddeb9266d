#include "checkpoint/gguf_names.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <utility>

namespace ssa {
namespace {

using NamePair = std::pair<std::string_view, std::string_view>;  // GGUF, Hugging Face

constexpr std::array<NamePair, 3> kModelNames = {{
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
}};

// Behind "blk.N." and "model.layers.N.", in front of ".weight" and ".bias".
constexpr std::array<NamePair, 12> kLayerNames = {{
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"attn_gate", "self_attn.g_proj"},  // llama-nsa only
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
}};

constexpr std::string_view kGgufLayer = "blk.";
constexpr std::string_view kHfLayer = "model.layers.";

/// A name inside a layer, cut into its parts.
struct LayerName {
  std::string_view layer;   // "12"
  std::string_view module;  // "attn_q"
  std::string_view suffix;  // ".weight"
};

std::optional<LayerName> split_layer_name(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) {
    return std::nullopt;
  }
  name.remove_prefix(prefix.size());
  const size_t first_dot = name.find('.');
  const size_t last_dot = name.rfind('.');
  const std::string_view layer = name.substr(0, first_dot);
  const bool is_number =
      !layer.empty() &&
      std::all_of(layer.begin(), layer.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  if (!is_number || first_dot == std::string_view::npos || first_dot == last_dot) {
    return std::nullopt;
  }
  const std::string_view suffix = name.substr(last_dot);
  if (suffix != ".weight" && suffix != ".bias") {
    return std::nullopt;
  }
  return LayerName{layer, name.substr(first_dot + 1, last_dot - first_dot - 1), suffix};
}

/// The second of the pair whose first is `name`, or of the reversed pair.
template <size_t n>
std::optional<std::string_view> counterpart(const std::array<NamePair, n>& pairs,
                                            std::string_view name,
                                            bool reversed) {
  for (const auto& [gguf, hf] : pairs) {
    if ((reversed ? hf : gguf) == name) {
      return reversed ? gguf : hf;
    }
  }
  return std::nullopt;
}

std::optional<std::string> translate(std::string_view name, bool reversed) {
  if (const auto found = counterpart(kModelNames, name, reversed)) {
    return std::string(*found);
  }
  const auto parts = split_layer_name(name, reversed ? kHfLayer : kGgufLayer);
  if (!parts) {
    return std::nullopt;
  }
  const auto module = counterpart(kLayerNames, parts->module, reversed);
  if (!module) {
    return std::nullopt;
  }
  std::string translated(reversed ? kGgufLayer : kHfLayer);
  return translated.append(parts->layer).append(".").append(*module).append(parts->suffix);
}

/// Calls copy(interleaved row, Hugging Face row) for all rows.
template <class Copy>
void for_each_row(size_t n_rows, int64_t n_heads, Copy copy) {
  const size_t head_rows = n_rows / static_cast<size_t>(n_heads);
  const size_t half = head_rows / 2;
  for (size_t head = 0; head < n_rows; head += head_rows) {
    for (size_t j = 0; j < half; ++j) {
      copy(head + 2 * j, head + j);
      copy(head + 2 * j + 1, head + half + j);
    }
  }
}

}  // namespace

std::optional<std::string> hf_tensor_name(std::string_view gguf_name) {
  return translate(gguf_name, false);
}

std::optional<std::string> gguf_tensor_name(std::string_view hf_name) {
  return translate(hf_name, true);
}

int64_t interleaved_heads(const ModelConfig& config, std::string_view hf_name) {
  if (config.architecture != Architecture::kLlama) {
    return 0;
  }
  const auto parts = split_layer_name(hf_name, kHfLayer);
  if (parts && parts->module == "self_attn.q_proj") {
    return config.n_heads;
  }
  return parts && parts->module == "self_attn.k_proj" ? config.n_kv_heads : 0;
}

void split_interleaved_heads(std::span<const std::byte> in,
                             std::span<std::byte> out,
                             int64_t n_heads,
                             size_t row_bytes) {
  for_each_row(in.size() / row_bytes, n_heads, [&](size_t interleaved, size_t split) {
    std::memcpy(&out[split * row_bytes], &in[interleaved * row_bytes], row_bytes);
  });
}

void interleave_heads(std::span<const std::byte> in,
                      std::span<std::byte> out,
                      int64_t n_heads,
                      size_t row_bytes) {
  for_each_row(in.size() / row_bytes, n_heads, [&](size_t interleaved, size_t split) {
    std::memcpy(&out[interleaved * row_bytes], &in[split * row_bytes], row_bytes);
  });
}

}  // namespace ssa
