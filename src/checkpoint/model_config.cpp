#include "checkpoint/model_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/text.h"
#include "checkpoint/rope_config.h"

namespace ssa {
namespace {

/// What transformers takes for a key that an architecture's config.json leaves out.
struct ArchitectureRow {
  Architecture architecture;
  const char* model_type;
  const char* class_name;
  int64_t max_positions;
  int64_t head_dim;  // 0: hidden_size / num_attention_heads
  std::optional<int64_t> bos, eos;
};

constexpr std::array<ArchitectureRow, 4> kArchitectures = {{
    {Architecture::kLlama, "llama", "LlamaForCausalLM", 2048, 0, 1, 2},
    {Architecture::kQwen2, "qwen2", "Qwen2ForCausalLM", 32768, 0, {}, {}},
    {Architecture::kQwen3, "qwen3", "Qwen3ForCausalLM", 32768, 128, {}, {}},
    {Architecture::kLlamaNsa, "llama-nsa", "LlamaNSAForCausalLM", 2048, 0, 1, 2},
}};

const ArchitectureRow& row(Architecture architecture) {
  return *std::find_if(kArchitectures.begin(), kArchitectures.end(), [&](const ArchitectureRow& r) {
    return r.architecture == architecture;
  });
}

std::string known_architectures() {
  std::vector<std::string> known;
  for (const ArchitectureRow& architecture : kArchitectures) {
    known.push_back(concat(architecture.model_type, " (", architecture.class_name, ")"));
  }
  return join(known, ", ");
}

/// By model_type, or where that is absent by the class; a class that is not the causal language
/// model is refused, since it lacks tensors or has others.
const ArchitectureRow& find_architecture(const Json& config) {
  const auto type = get_or(config, "model_type", std::string());
  const Json* classes = find_key(config, "architectures");
  const bool has_class = classes != nullptr && classes->is_array() && !classes->empty();
  for (const ArchitectureRow& candidate : kArchitectures) {
    const bool same_class =
        has_class &&
        std::find(classes->begin(), classes->end(), candidate.class_name) != classes->end();
    if ((type == candidate.model_type && (same_class || !has_class)) ||
        (type.empty() && same_class)) {
      return candidate;
    }
  }
  const std::string named =
      has_class ? " with architectures " + dump_json(*classes).substr(0, 80) : "";
  fail("model_type '",
       type.substr(0, 40),
       "'",
       named,
       " is not supported (known: ",
       known_architectures(),
       ")");
}

int64_t required_size(const Json& config, const char* key) {
  check(find_key(config, key) != nullptr, "key '", key, "' is missing");
  return get_or(config, key, int64_t{0});
}

void check_range(int64_t value, int64_t low, int64_t high, const char* key) {
  check(value >= low && value <= high,
        "key '",
        key,
        "': expected ",
        low,
        " to ",
        high,
        ", got ",
        value);
}

/// Throws if some layer attends through a sliding window. As in transformers: layer_types decides
/// if it is there; else with use_sliding_window all layers from max_window_layers on do.
void refuse_sliding_windows(const Json& config, int64_t n_layers) {
  if (const Json* types = find_key(config, "layer_types")) {
    check(types->is_array(), "key 'layer_types': expected a list");
    for (const Json& type : *types) {
      check(type == "full_attention",
            "key 'layer_types': ",
            dump_json(type).substr(0, 40),
            " is not supported, only full_attention");
    }
    return;
  }
  if (!get_or(config, "use_sliding_window", false)) {
    return;
  }
  const bool has_window =
      !config.contains("sliding_window") || find_key(config, "sliding_window") != nullptr;
  const bool all_full = get_or(config, "max_window_layers", int64_t{28}) >= n_layers;
  check(!has_window || all_full,
        "key 'use_sliding_window': sliding windows are not supported, expected false");
}

std::optional<DType> parse_config_dtype(const Json& config) {
  const auto old_name = get_or(config, "torch_dtype", std::string());
  auto name = get_or(config, "dtype", old_name);
  if (name.starts_with("torch.")) {
    name = name.substr(6);
  }
  if (name.empty() || name == "auto") {
    return std::nullopt;
  }
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    if (name == config_dtype_name(dtype)) return dtype;
  }
  fail("key 'dtype': '",
       name.substr(0, 40),
       "' is not supported (known: float64 float32 float16 bfloat16)");
}

int64_t token_id(const Json& value, const char* key) {
  const int64_t highest = std::numeric_limits<int32_t>::max();
  check(value.is_number_integer(),
        "key '",
        key,
        "': expected a token id, got ",
        dump_json(value).substr(0, 80));
  const auto id = value.get<int64_t>();
  check_range(id, 0, highest, key);
  return id;
}

void append_eos(const Json& object, std::vector<int64_t>& ids) {
  constexpr const char* kKey = "eos_token_id";
  const Json* value = find_key(object, kKey);
  if (value == nullptr) {
    return;
  }
  for (const Json& item : value->is_array() ? *value : Json::array({*value})) {
    const int64_t id = token_id(item, kKey);
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) {
      ids.push_back(id);
    }
  }
}

void read_token_ids(const Json& config, const Json& generation, ModelConfig& out) {
  constexpr const char* kBos = "bos_token_id";
  const ArchitectureRow& defaults = row(out.architecture);
  append_eos(config, out.eos_token_ids);
  append_eos(generation, out.eos_token_ids);
  if (out.eos_token_ids.empty() && !config.contains("eos_token_id") && defaults.eos) {
    out.eos_token_ids.push_back(*defaults.eos);
  }
  const Json* bos = find_key(config, kBos);
  bos = bos != nullptr ? bos : find_key(generation, kBos);
  if (bos != nullptr) {
    out.bos_token_id = token_id(*bos, kBos);
  } else if (!config.contains(kBos)) {
    out.bos_token_id = defaults.bos;
  }
}

void read_sizes(const Json& config, ModelConfig& out) {
  const ArchitectureRow& defaults = row(out.architecture);
  out.hidden_size = required_size(config, "hidden_size");
  out.intermediate_size = required_size(config, "intermediate_size");
  out.n_layers = required_size(config, "num_hidden_layers");
  out.n_heads = required_size(config, "num_attention_heads");
  out.vocab_size = required_size(config, "vocab_size");
  out.n_kv_heads = get_or(config, "num_key_value_heads", out.n_heads);
  out.max_position_embeddings = get_or(config, "max_position_embeddings", defaults.max_positions);
  out.head_dim = get_or(config, "head_dim", defaults.head_dim);
  if (out.head_dim == 0) {
    check(out.n_heads > 0 && out.hidden_size % out.n_heads == 0,
          "key 'hidden_size': ",
          out.hidden_size,
          " is not a multiple of num_attention_heads ",
          out.n_heads,
          ", and there is no head_dim");
    out.head_dim = out.hidden_size / out.n_heads;
  }
}

void read_biases(const Json& config, ModelConfig& out) {
  const bool stated = get_or(config, "attention_bias", false);
  const bool is_qwen2 = out.architecture == Architecture::kQwen2;
  out.attention_bias = is_qwen2 || stated;
  out.attention_output_bias = !is_qwen2 && stated;
  const bool is_llama =
      out.architecture == Architecture::kLlama || out.architecture == Architecture::kLlamaNsa;
  out.mlp_bias = is_llama && get_or(config, "mlp_bias", false);
}

void add_gist(const ModelConfig& config, Json& out) {
  if (!config.gist.is_null()) {
    out["gist"] = config.gist;
  }
}

void add_block_attention(const ModelConfig& config, Json& out) {
  if (config.architecture == Architecture::kLlamaNsa) {
    out["block_size"] = config.nsa_block_size;
    out["block_counts"] = config.nsa_block_counts;
    out["window_size"] = config.nsa_window_size;
    out["inference_mode"] = config.nsa_inference_mode;
  }
}

/// The configuration it came with, in its own dialect, with what commands change brought up to
/// date.
Json updated_raw(const ModelConfig& config) {
  Json out = config.raw;
  out["vocab_size"] = config.vocab_size;
  add_gist(config, out);
  add_block_attention(config, out);
  if (!config.dtype || parse_config_dtype(out) == config.dtype) {
    return out;
  }
  const bool is_new_dialect =
      out.contains("dtype") || (!out.contains("torch_dtype") && out.contains("rope_parameters"));
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (out.contains(key)) {
      out[key] = config_dtype_name(*config.dtype);
    }
  }
  out[is_new_dialect ? "dtype" : "torch_dtype"] = config_dtype_name(*config.dtype);
  return out;
}

/// transformers 4 reads the first two keys, version 5 the third.
void add_rope(const RopeConfig& rope, Json& out) {
  const Json parameters = rope_parameters(rope);
  Json scaling;
  if (rope.type != RopeType::kDefault) {
    scaling = parameters;
    scaling.erase("rope_theta");
  }
  out["rope_theta"] = rope.theta;
  out["rope_scaling"] = scaling;
  out["rope_parameters"] = parameters;
}

Json eos_value(const std::vector<int64_t>& ids) {
  if (ids.empty()) return nullptr;
  return ids.size() == 1 ? Json(ids[0]) : Json(ids);
}

}  // namespace

const char* architecture_name(Architecture architecture) {
  return row(architecture).model_type;
}

ModelConfig parse_hf_config(const Json& config, const Json& generation) {
  check(config.is_object(), "expected an object");
  check(find_key(config, "quantization_config") == nullptr,
        "key 'quantization_config': quantised safetensors are not supported (GGUF files are)");
  const auto activation = get_or(config, "hidden_act", std::string("silu"));
  check(activation == "silu" || activation == "swish",
        "key 'hidden_act': '",
        activation.substr(0, 40),
        "' is not supported, only silu");
  ModelConfig out;
  out.architecture = find_architecture(config).architecture;
  read_sizes(config, out);
  refuse_sliding_windows(config, out.n_layers);
  out.rms_norm_eps = get_or(config, "rms_norm_eps", out.rms_norm_eps);
  out.tie_word_embeddings = get_or(config, "tie_word_embeddings", false);
  read_biases(config, out);
  out.rope = parse_rope(config, out.max_position_embeddings);
  out.dtype = parse_config_dtype(config);
  read_token_ids(config, generation, out);
  if (out.architecture == Architecture::kLlamaNsa) {
    out.nsa_block_size = get_or(config, "block_size", out.nsa_block_size);
    out.nsa_block_counts = get_or(config, "block_counts", out.nsa_block_counts);
    out.nsa_window_size = get_or(config, "window_size", out.nsa_window_size);
    out.nsa_inference_mode = get_or(config, "inference_mode", out.nsa_inference_mode);
  }
  if (const Json* gist = find_key(config, "gist")) {
    out.gist = *gist;
  }
  out.raw = config;
  check_config(out);
  return out;
}

void check_config(const ModelConfig& config) {
  constexpr int64_t kMaxPositions = std::numeric_limits<int32_t>::max();
  check_range(config.hidden_size, 1, 1 << 20, "hidden_size");
  check_range(config.intermediate_size, 1, 1 << 22, "intermediate_size");
  check_range(config.n_layers, 1, 1 << 12, "num_hidden_layers");
  check_range(config.n_heads, 1, 1 << 12, "num_attention_heads");
  check_range(config.n_kv_heads, 1, config.n_heads, "num_key_value_heads");
  check_range(config.vocab_size, 1, 1 << 24, "vocab_size");
  check_range(config.max_position_embeddings, 1, kMaxPositions, "max_position_embeddings");
  check_range(config.head_dim, 2, 512, "head_dim");
  check(config.head_dim % 2 == 0, "key 'head_dim': expected an even number, got ", config.head_dim);
  check(config.n_heads % config.n_kv_heads == 0,
        "key 'num_attention_heads': ",
        config.n_heads,
        " is not a multiple of num_key_value_heads ",
        config.n_kv_heads);
  check(config.rms_norm_eps > 0 && config.rms_norm_eps < 1,
        "key 'rms_norm_eps': expected a number between 0 and 1, got ",
        config.rms_norm_eps);
  check_rope(config.rope);
  if (config.architecture == Architecture::kLlamaNsa) {
    check_range(config.nsa_block_size, 1, kMaxPositions, "block_size");
    check_range(config.nsa_block_counts, 1, kMaxPositions, "block_counts");
    check_range(config.nsa_window_size, 0, kMaxPositions, "window_size");
    check(config.nsa_inference_mode == "sparse" || config.nsa_inference_mode == "full",
          "key 'inference_mode': expected sparse or full, got '",
          config.nsa_inference_mode.substr(0, 40),
          "'");
  }
}

Json to_hf_config(const ModelConfig& config) {
  if (config.raw.is_object() && !config.raw.empty()) {
    return updated_raw(config);
  }
  const ArchitectureRow& names = row(config.architecture);
  Json out = {
      {"architectures", Json::array({names.class_name})},
      {"model_type", names.model_type},
      {"vocab_size", config.vocab_size},
      {"hidden_size", config.hidden_size},
      {"intermediate_size", config.intermediate_size},
      {"num_hidden_layers", config.n_layers},
      {"num_attention_heads", config.n_heads},
      {"num_key_value_heads", config.n_kv_heads},
      {"head_dim", config.head_dim},
      {"hidden_act", "silu"},
      {"max_position_embeddings", config.max_position_embeddings},
      {"rms_norm_eps", config.rms_norm_eps},
      {"tie_word_embeddings", config.tie_word_embeddings},
      {"attention_bias", config.attention_bias},
      {"mlp_bias", config.mlp_bias},
      {"attention_dropout", 0.0},
      {"initializer_range", 0.02},
      {"use_cache", true},
      {"bos_token_id", config.bos_token_id ? Json(*config.bos_token_id) : Json()},
      {"eos_token_id", eos_value(config.eos_token_ids)},
  };
  add_rope(config.rope, out);
  add_block_attention(config, out);
  add_gist(config, out);
  if (config.dtype) {
    out["torch_dtype"] = config_dtype_name(*config.dtype);
    out["dtype"] = config_dtype_name(*config.dtype);
  }
  return out;
}

}  // namespace ssa
