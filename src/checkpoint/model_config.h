// A model's shape and constants, the same whichever file they came from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/dtype.h"

namespace ssa {

enum class Architecture {
  kLlama,     // "llama": LlamaForCausalLM
  kQwen2,     // "qwen2": Qwen2ForCausalLM, biases on q, k and v
  kQwen3,     // "qwen3": Qwen3ForCausalLM, RMS norm on each head's q and k
  kLlamaNsa,  // "llama-nsa": LlamaNSAForCausalLM, a sigmoid gate on each head's attention output
};

/// "llama", "qwen2", "qwen3", "llama-nsa": config.json's model_type.
const char* architecture_name(Architecture architecture);

enum class RopeType { kDefault, kLinear, kLlama3, kYarn };

/// Rotary embedding. Names and meaning as in transformers' rope_parameters (rope_scaling before
/// version 5).
struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;
  double factor = 1.0;                           // linear, llama3, yarn
  double low_freq_factor = 1.0;                  // llama3
  double high_freq_factor = 4.0;                 // llama3
  int64_t original_max_position_embeddings = 0;  // llama3, yarn; 0: not given
  std::optional<double> attention_factor;        // yarn; absent: from mscale or 0.1 ln(factor) + 1
  double beta_fast = 32.0;                       // yarn
  double beta_slow = 1.0;                        // yarn
  std::optional<double> mscale, mscale_all_dim;  // yarn
  bool truncate = true;  // yarn: round the correction range to whole dimensions
};

/// Shape and constants of a decoder. Sizes in elements.
struct ModelConfig {
  Architecture architecture = Architecture::kLlama;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t n_layers = 0;
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab_size = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  bool attention_bias = false;         // q, k, v (Qwen2: always)
  bool attention_output_bias = false;  // o (Llama and Qwen3 with attention_bias)
  bool mlp_bias = false;
  RopeConfig rope;
  std::optional<DType> dtype;  // as stored, where the file says so
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t>
      eos_token_ids;  // config.json and generation_config.json together, no repeats
  // llama-nsa: block-sparse attention's defaults.
  int64_t nsa_block_size = 16;
  int64_t nsa_block_counts = 16;
  int64_t nsa_window_size = 0;
  std::string nsa_inference_mode = "sparse";
  Json gist;  // config.json's key "gist" as it stands there, which gist/ reads; null: none
  /// The whole config.json, for keys read elsewhere and for saving in the dialect it came in; null
  /// where the model came from another format.
  Json raw;
};

/// Reads config.json's content in either dialect (rope_theta + rope_scaling + torch_dtype, or
/// rope_parameters + dtype). `generation` is generation_config.json's content or null. Throws Error
/// naming the key for a missing, misshapen or contradictory value, an unknown architecture (lists
/// those known) or rope type, and for what is not supported (sliding windows in use, a hidden_act
/// other than silu).
ModelConfig parse_hf_config(const Json& config, const Json& generation);

/// Throws Error naming config.json's key for the first value outside the range that the models can
/// work with.
void check_config(const ModelConfig& config);

/// config.json for this configuration: `raw` where it came from a Hugging Face directory (with
/// vocab_size and dtype brought up to date), else written anew with the keys of both dialects.
Json to_hf_config(const ModelConfig& config);

}  // namespace ssa
