#include "checkpoint/gguf_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <utility>

#include "base/error.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/gguf_quants.h"

namespace ssa {
namespace {

// llama.cpp has no key for llama3 scaling: it reads the finished divisors from a tensor. We add
// where they come from.
constexpr std::string_view kLlama3Factor = "ssa.rope.llama3.factor";
constexpr std::string_view kLlama3LowFreqFactor = "ssa.rope.llama3.low_freq_factor";
constexpr std::string_view kLlama3HighFreqFactor = "ssa.rope.llama3.high_freq_factor";
constexpr std::string_view kLlama3OriginalContext = "ssa.rope.llama3.original_context_length";
// The model's end-of-text tokens; GGUF has the tokenizer's one, which may be another.
constexpr std::string_view kEosTokenIds = "ssa.eos_token_ids";

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
  fail("architecture '", name->substr(0, 40), "' is not supported (known: ", known, ")");
}

/// The keys of one architecture, whose name stands in front of them.
class Keys {
 public:
  Keys(const GgufFile& file, Architecture architecture)
      : file_(file), prefix_(std::string(architecture_name(architecture)) + ".") {}

  std::string name(std::string_view key) const { return prefix_ + std::string(key); }
  std::optional<int64_t> integer(std::string_view key) const { return file_.integer(name(key)); }
  std::optional<double> number(std::string_view key) const { return file_.number(name(key)); }
  std::optional<bool> boolean(std::string_view key) const { return file_.boolean(name(key)); }
  std::optional<std::string_view> string(std::string_view key) const {
    return file_.string(name(key));
  }

  int64_t required_integer(std::string_view key) const {
    const auto value = integer(key);
    check(value.has_value(), "key '", name(key), "' is missing");
    return *value;
  }

  /// Throws unless the key is missing or has this value.
  void expect(std::string_view key, int64_t expected) const {
    const int64_t value = integer(key).value_or(expected);
    check(value == expected,
          "key '",
          name(key),
          "': ",
          value,
          " is not supported here, expected ",
          expected);
  }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

void read_sizes(const GgufFile& file, const Keys& keys, ModelConfig& config) {
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

void refuse_unsupported(const Keys& keys, const ModelConfig& config) {
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

void read_yarn(const Keys& keys, int64_t max_positions, RopeConfig& rope) {
  rope.original_max_position_embeddings =
      keys.integer("rope.scaling.original_context_length").value_or(max_positions);
  rope.beta_fast = keys.number("rope.scaling.yarn_beta_fast").value_or(rope.beta_fast);
  rope.beta_slow = keys.number("rope.scaling.yarn_beta_slow").value_or(rope.beta_slow);
  // attn_factor multiplies YaRN's own factor; yarn_attn_factor is the whole.
  rope.attention_factor = keys.number("rope.scaling.yarn_attn_factor");
  const auto multiplier = keys.number("rope.scaling.attn_factor");
  if (!rope.attention_factor && multiplier && *multiplier != 1.0) {
    rope.attention_factor = *multiplier * (0.1 * std::log(rope.factor) + 1.0);
  }
}

RopeConfig read_rope(const Keys& keys, int64_t max_positions) {
  RopeConfig rope;
  rope.theta = keys.number("rope.freq_base").value_or(rope.theta);
  auto factor = keys.number("rope.scaling.factor");
  factor = factor ? factor : keys.number("rope.scale_linear");  // the older key
  const std::string_view type = keys.string("rope.scaling.type").value_or("linear");
  const bool is_scaled = type != "none" && factor.value_or(0.0) != 0.0;
  check(type == "none" || type == "linear" || type == "yarn",
        "key '",
        keys.name("rope.scaling.type"),
        "': '",
        type.substr(0, 40),
        "' is not supported (known: none, linear, yarn)");
  if (!is_scaled || (type == "linear" && *factor == 1.0)) {
    return rope;
  }
  rope.factor = *factor;
  rope.type = type == "yarn" ? RopeType::kYarn : RopeType::kLinear;
  if (rope.type == RopeType::kYarn) {
    read_yarn(keys, max_positions, rope);
  }
  return rope;
}

bool matches(std::span<const float> found, std::span<const float> expected) {
  return std::equal(
      found.begin(), found.end(), expected.begin(), expected.end(), [](float a, float b) {
        return std::fabs(a - b) <= 1e-4F * std::fabs(b);
      });
}

/// Finds the llama3 scaling that a rope_freqs.weight was made from. The divisors alone leave a
/// family of settings open (low, high and original positions scaled together), so it takes the keys
/// that we write, or Llama 3.1's constants.
void read_llama3_rope(const GgufFile& file,
                      const GgufTensor& tensor,
                      const ModelConfig& config,
                      RopeConfig& rope) {
  check(rope.type == RopeType::kDefault,
        "both rope.scaling and the tensor '",
        kRopeFreqsName,
        "' change the rotary frequencies");
  check(tensor.shape == std::vector<int64_t>{config.head_dim / 2},
        "tensor '",
        kRopeFreqsName,
        "': expected ",
        config.head_dim / 2,
        " numbers");
  std::vector<float> divisors(static_cast<size_t>(config.head_dim / 2));
  dequantize(tensor.type, tensor.bytes, divisors);
  if (std::all_of(divisors.begin(), divisors.end(), [](float d) { return d == 1.0F; })) {
    return;
  }
  rope.type = RopeType::kLlama3;
  const double largest = *std::max_element(divisors.begin(), divisors.end());
  rope.factor = file.number(kLlama3Factor).value_or(largest);
  rope.low_freq_factor = file.number(kLlama3LowFreqFactor).value_or(1.0);
  rope.high_freq_factor = file.number(kLlama3HighFreqFactor).value_or(4.0);
  rope.original_max_position_embeddings = file.integer(kLlama3OriginalContext).value_or(8192);
  check(matches(divisors, llama3_rope_divisors(rope, config.head_dim)),
        "tensor '",
        kRopeFreqsName,
        "' is no llama3 scaling with factor ",
        rope.factor,
        ", low_freq_factor ",
        rope.low_freq_factor,
        ", high_freq_factor ",
        rope.high_freq_factor,
        " and ",
        rope.original_max_position_embeddings,
        " original positions");
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

void check_token_id(int64_t id, std::string_view key, int64_t vocab_size) {
  check(id >= 0 && id < vocab_size,
        "key '",
        key,
        "': token id ",
        id,
        " of a vocabulary of ",
        vocab_size);
}

/// The token id under that key; nothing if it is missing or the 2^32 - 1 that stands for none.
std::optional<int64_t> read_token_id(const GgufFile& file,
                                     std::string_view key,
                                     int64_t vocab_size) {
  const auto id = file.integer(key);
  if (!id || *id == std::numeric_limits<uint32_t>::max() || *id == -1) {
    return std::nullopt;
  }
  check_token_id(*id, key, vocab_size);
  return id;
}

void read_token_ids(const GgufFile& file, ModelConfig& config) {
  config.bos_token_id = read_token_id(file, "tokenizer.ggml.bos_token_id", config.vocab_size);
  if (const auto ids = file.integers(kEosTokenIds)) {
    for (const int64_t id : *ids) {
      check_token_id(id, kEosTokenIds, config.vocab_size);
      append_id(config.eos_token_ids, id);
    }
    return;
  }
  for (const char* key : {"tokenizer.ggml.eos_token_id",
                          "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.eom_token_id"}) {
    append_id(config.eos_token_ids, read_token_id(file, key, config.vocab_size));
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

void read_nsa(const Keys& keys, ModelConfig& config) {
  config.nsa_block_size = keys.integer("nsa.block_size").value_or(config.nsa_block_size);
  config.nsa_block_counts = keys.integer("nsa.block_counts").value_or(config.nsa_block_counts);
  config.nsa_window_size = keys.integer("nsa.window_size").value_or(config.nsa_window_size);
  config.nsa_inference_mode = keys.string("nsa.inference_mode").value_or(config.nsa_inference_mode);
}

ModelConfig read_config(const GgufFile& file) {
  ModelConfig config;
  config.architecture = read_architecture(file);
  const Keys keys(file, config.architecture);
  read_sizes(file, keys, config);
  refuse_unsupported(keys, config);
  config.rms_norm_eps =
      keys.number("attention.layer_norm_rms_epsilon").value_or(config.rms_norm_eps);
  config.tie_word_embeddings = file.find_tensor("output.weight") == nullptr;
  read_biases(file, config);
  config.rope = read_rope(keys, config.max_position_embeddings);
  config.dtype = common_dtype(file);
  read_token_ids(file, config);
  if (config.architecture == Architecture::kLlamaNsa) {
    read_nsa(keys, config);
  }
  check_config(config);  // before head_dim sizes anything
  if (const GgufTensor* divisors = file.find_tensor(kRopeFreqsName)) {
    read_llama3_rope(file, *divisors, config, config.rope);
    check_config(config);
  }
  return config;
}

/// YaRN's factor on cos and sin, as transformers computes it.
double yarn_attention_factor(const RopeConfig& rope) {
  const auto scale = [&](double mscale) {
    return rope.factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(rope.factor) + 1.0;
  };
  if (rope.attention_factor) {
    return *rope.attention_factor;
  }
  const bool has_both =
      rope.mscale.value_or(0.0) != 0.0 && rope.mscale_all_dim.value_or(0.0) != 0.0;
  return has_both ? scale(*rope.mscale) / scale(*rope.mscale_all_dim) : scale(1.0);
}

void write_yarn(const RopeConfig& rope, const std::string& prefix, GgufHeader& header) {
  check(rope.truncate,
        "YaRN with truncate false cannot be written as GGUF: llama.cpp always rounds");
  header.add_uint32(prefix + "original_context_length", rope.original_max_position_embeddings);
  header.add_float32(prefix + "yarn_beta_fast", rope.beta_fast);
  header.add_float32(prefix + "yarn_beta_slow", rope.beta_slow);
  const double usual = 0.1 * std::log(rope.factor) + 1.0;
  const double attention_factor = yarn_attention_factor(rope);
  if (attention_factor != usual) {
    header.add_float32(prefix + "yarn_attn_factor", attention_factor);
    header.add_float32(prefix + "attn_factor", attention_factor / usual);
  }
}

void write_rope(const ModelConfig& config, const std::string& prefix, GgufHeader& header) {
  const RopeConfig& rope = config.rope;
  header.add_float32(prefix + "freq_base", rope.theta);
  header.add_uint32(prefix + "dimension_count", config.head_dim);
  if (rope.type == RopeType::kLinear || rope.type == RopeType::kYarn) {
    header.add_string(prefix + "scaling.type", rope.type == RopeType::kYarn ? "yarn" : "linear");
    header.add_float32(prefix + "scaling.factor", rope.factor);
  }
  if (rope.type == RopeType::kYarn) {
    write_yarn(rope, prefix + "scaling.", header);
  }
  if (rope.type == RopeType::kLlama3) {
    const bool is_qwen =
        config.architecture == Architecture::kQwen2 || config.architecture == Architecture::kQwen3;
    check(!is_qwen,
          "llama3 RoPE scaling of a ",
          architecture_name(config.architecture),
          " model cannot be written as GGUF: llama.cpp knows it for llama only");
    header.add_float64(kLlama3Factor, rope.factor);
    header.add_float64(kLlama3LowFreqFactor, rope.low_freq_factor);
    header.add_float64(kLlama3HighFreqFactor, rope.high_freq_factor);
    header.add_uint32(kLlama3OriginalContext, rope.original_max_position_embeddings);
  }
}

}  // namespace

ModelConfig read_gguf_config(const GgufFile& file) {
  try {
    return read_config(file);
  } catch (const Error& error) {
    const std::string message = error.what();
    fail(message.starts_with(file.name()) ? message : file.name() + ": " + message);
  }
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
  write_rope(config, prefix + "rope.", header);
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
}

std::vector<float> llama3_rope_divisors(const RopeConfig& rope, int64_t head_dim) {
  std::vector<float> divisors;
  const auto original = static_cast<double>(rope.original_max_position_embeddings);
  for (int64_t i = 0; i < head_dim; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(head_dim);
    const double wavelength = 2.0 * std::numbers::pi * std::pow(rope.theta, exponent);
    // 1 for wavelengths that fit high_freq_factor times into the original positions, 0 for those
    // that do not fit low_freq_factor times.
    const double smooth = std::clamp((original / wavelength - rope.low_freq_factor) /
                                         (rope.high_freq_factor - rope.low_freq_factor),
                                     0.0,
                                     1.0);
    divisors.push_back(static_cast<float>(1.0 / ((1.0 - smooth) / rope.factor + smooth)));
  }
  return divisors;
}

}  // namespace ssa
