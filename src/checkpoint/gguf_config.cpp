#include "checkpoint/gguf_config.h"

#include <algorithm>
#include <array>
#include <string>

#include "base/error.h"
#include "checkpoint/gguf_model_keys.h"
#include "checkpoint/gguf_rope.h"

namespace ssa {
namespace {

// The model's end-of-text tokens; GGUF has the tokenizer's one, which may be another.
constexpr std::string_view kEosTokenIds = "ssa.eos_token_ids";

// config.json's key "gist", as JSON.
constexpr std::string_view kGistSettings = "ssa.gist";

constexpr std::array kArchitectures = {
    Architecture::kLlama, Architecture::kQwen2, Architecture::kQwen3, Architecture::kLlamaNsa};

Architecture read_architecture(const GgufFile& file) {
  const auto name = file.string("general.architecture");
  check(name.has_value(), "key 'general.architecture' is missing");
  std::string known;
  for (const Architecture architecture : kArchitectures) {
    if (*name == architecture_name(architecture)) {
      return architecture;
    }
    known.append(known.empty() ? "" : ", ").append(architecture_name(architecture));
  }
  fail("architecture ", printable(*name), " is not supported (known: ", known, ")");
}

void read_sizes(const GgufFile& file, const GgufModelKeys& keys, ModelConfig& config) {
  config.n_layers = keys.required_integer("block_count");
  config.hidden_size = keys.required_integer("embedding_length");
  config.intermediate_size = keys.required_integer("feed_forward_length");
  config.max_position_embeddings = keys.required_integer("context_length");
  config.n_heads = keys.required_integer("attention.head_count");
  config.n_kv_heads = keys.integer("attention.head_count_kv").value_or(config.n_heads);
  check(config.n_heads > 0,
        "key '",
        keys.name("attention.head_count"),
        "': ",
        config.n_heads,
        " is not positive");
  config.head_dim =
      keys.integer("attention.key_length").value_or(config.hidden_size / config.n_heads);
  keys.expect("attention.value_length", config.head_dim);
  keys.expect("rope.dimension_count", config.head_dim);
  const GgufValue* tokens = file.find("tokenizer.ggml.tokens");
  const auto vocab_size = keys.integer("vocab_size");
  check(vocab_size || tokens != nullptr, "key '", keys.name("vocab_size"), "' is missing");
  config.vocab_size = vocab_size ? *vocab_size : static_cast<int64_t>(tokens->size);
}

void refuse_unsupported(const GgufModelKeys& keys, const ModelConfig& config) {
  keys.expect("expert_count", 0);
  check(keys.boolean("attention.causal").value_or(true),
        "key '",
        keys.name("attention.causal"),
        "': only causal models are supported");
  const int64_t window = keys.integer("attention.sliding_window").value_or(0);
  check(window <= 0 || window >= config.max_position_embeddings,
        "key '",
        keys.name("attention.sliding_window"),
        "': sliding windows are not supported, got ",
        window);
}

void read_biases(const GgufFile& file, ModelConfig& config) {
  const bool is_qwen2 = config.architecture == Architecture::kQwen2;
  config.attention_bias = is_qwen2 || file.find_tensor("blk.0.attn_q.bias") != nullptr;
  config.attention_output_bias = file.find_tensor("blk.0.attn_output.bias") != nullptr;
  config.mlp_bias = file.find_tensor("blk.0.ffn_down.bias") != nullptr;
}

void append_id(std::vector<int64_t>& ids, std::optional<int64_t> id) {
  if (id && std::find(ids.begin(), ids.end(), *id) == ids.end()) {
    ids.push_back(*id);
  }
}

void read_token_ids(const GgufFile& file, ModelConfig& config) {
  config.bos_token_id = file.token_id("tokenizer.ggml.bos_token_id", config.vocab_size);
  if (const auto ids = file.integers(kEosTokenIds)) {
    for (const int64_t id : *ids) {
      check(id >= 0 && id < config.vocab_size,
            "key '",
            kEosTokenIds,
            "': token id ",
            id,
            " of a vocabulary of ",
            config.vocab_size);
      append_id(config.eos_token_ids, id);
    }
    return;
  }
  for (const char* key : {"tokenizer.ggml.eos_token_id",
                          "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.eom_token_id"}) {
    append_id(config.eos_token_ids, file.token_id(key, config.vocab_size));
  }
}

/// The plain type that all matrices share, if they do.
std::optional<DType> common_dtype(const GgufFile& file) {
  std::optional<DType> common;
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.shape.size() < 2) {
      continue;
    }
    const auto dtype = plain_dtype(tensor.type);
    if (!dtype || (common && common != dtype)) {
      return std::nullopt;
    }
    common = dtype;
  }
  return common;
}

void read_nsa(const GgufModelKeys& keys, ModelConfig& config) {
  config.nsa_block_size = keys.integer("nsa.block_size").value_or(config.nsa_block_size);
  config.nsa_block_counts = keys.integer("nsa.block_counts").value_or(config.nsa_block_counts);
  config.nsa_window_size = keys.integer("nsa.window_size").value_or(config.nsa_window_size);
  config.nsa_inference_mode = keys.string("nsa.inference_mode").value_or(config.nsa_inference_mode);
}

void read_gist(const GgufFile& file, ModelConfig& config) {
  if (const auto text = file.string(kGistSettings)) {
    const std::string key = concat("key '", kGistSettings, "'");
    config.gist = parse_json(*text, key);
    check(config.gist.is_object(), key, ": expected an object");
  }
}

ModelConfig read_config(const GgufFile& file) {
  ModelConfig config;
  config.architecture = read_architecture(file);
  const GgufModelKeys keys(file, config.architecture);
  read_sizes(file, keys, config);
  refuse_unsupported(keys, config);
  config.rms_norm_eps =
      keys.number("attention.layer_norm_rms_epsilon").value_or(config.rms_norm_eps);
  config.tie_word_embeddings = file.find_tensor("output.weight") == nullptr;
  read_biases(file, config);
  config.rope = read_gguf_rope(file, keys, config);
  config.dtype = common_dtype(file);
  read_token_ids(file, config);
  read_gist(file, config);
  if (config.architecture == Architecture::kLlamaNsa) {
    read_nsa(keys, config);
  }
  check_config(config);
  return config;
}

}  // namespace

ModelConfig read_gguf_config(const GgufFile& file) {
  return naming_file(file, [&] { return read_config(file); });
}

void write_gguf_config(const ModelConfig& config, GgufHeader& header) {
  const std::string prefix = std::string(architecture_name(config.architecture)) + ".";
  header.add_uint32(prefix + "block_count", config.n_layers);
  header.add_uint32(prefix + "context_length", config.max_position_embeddings);
  header.add_uint32(prefix + "embedding_length", config.hidden_size);
  header.add_uint32(prefix + "feed_forward_length", config.intermediate_size);
  header.add_uint32(prefix + "attention.head_count", config.n_heads);
  header.add_uint32(prefix + "attention.head_count_kv", config.n_kv_heads);
  header.add_uint32(prefix + "attention.key_length", config.head_dim);
  header.add_uint32(prefix + "attention.value_length", config.head_dim);
  header.add_float32(prefix + "attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  header.add_uint32(prefix + "vocab_size", config.vocab_size);
  write_gguf_rope(config, header);
  if (config.architecture == Architecture::kLlamaNsa) {
    header.add_uint32(prefix + "nsa.block_size", config.nsa_block_size);
    header.add_uint32(prefix + "nsa.block_counts", config.nsa_block_counts);
    header.add_uint32(prefix + "nsa.window_size", config.nsa_window_size);
    header.add_string(prefix + "nsa.inference_mode", config.nsa_inference_mode);
  }
  if (!config.eos_token_ids.empty()) {
    const std::vector<int32_t> ids(config.eos_token_ids.begin(), config.eos_token_ids.end());
    header.add_int32s(kEosTokenIds, ids);
  }
  if (!config.gist.is_null()) {
    header.add_string(kGistSettings, dump_json(config.gist));
  }
}

}  // namespace ssa
