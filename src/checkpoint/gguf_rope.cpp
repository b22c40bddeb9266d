#include "checkpoint/gguf_rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>
#include <string>

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

/// How much YaRN lengthens queries and keys together, before anybody's corrections.
double yarn_scale(double factor, double mscale = 1.0) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void read_yarn(const GgufModelKeys& keys, int64_t max_positions, RopeConfig& rope) {
  rope.original_max_position_embeddings =
      keys.integer("rope.scaling.original_context_length").value_or(max_positions);
  rope.beta_fast = keys.number("rope.scaling.yarn_beta_fast").value_or(rope.beta_fast);
  rope.beta_slow = keys.number("rope.scaling.yarn_beta_slow").value_or(rope.beta_slow);
  // attn_factor multiplies YaRN's own factor; yarn_attn_factor is the whole.
  rope.attention_factor = keys.number("rope.scaling.yarn_attn_factor");
  const auto multiplier = keys.number("rope.scaling.attn_factor");
  if (!rope.attention_factor && multiplier && *multiplier != 1.0) {
    rope.attention_factor = *multiplier * yarn_scale(rope.factor);
  }
}

/// What the keys say.
RopeConfig read_scaling(const GgufModelKeys& keys, int64_t max_positions) {
  RopeConfig rope;
  rope.theta = keys.number("rope.freq_base").value_or(rope.theta);
  auto factor = keys.number("rope.scaling.factor");
  factor = factor ? factor : keys.number("rope.scale_linear");  // the older key
  const std::string_view type = keys.string("rope.scaling.type").value_or("linear");
  const bool is_scaled = type != "none" && factor.value_or(0.0) != 0.0;
  check(type == "none" || type == "linear" || type == "yarn",
        "key '",
        keys.name("rope.scaling.type"),
        "': ",
        printable(type),
        " is not supported (known: none, linear, yarn)");
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
                      int64_t head_dim,
                      RopeConfig& rope) {
  check(rope.type == RopeType::kDefault,
        "both rope.scaling and the tensor '",
        kRopeFreqsName,
        "' change the rotary frequencies");
  check(tensor.shape == std::vector<int64_t>{head_dim / 2},
        "tensor '",
        kRopeFreqsName,
        "': expected ",
        head_dim / 2,
        " numbers");
  std::vector<float> divisors(static_cast<size_t>(head_dim / 2));
  dequantize(tensor.type, tensor.bytes, divisors);
  const bool is_one =
      std::all_of(divisors.begin(), divisors.end(), [](float d) { return d == 1.0F; });
  if (is_one && file.find(kLlama3Factor) == nullptr) {
    return;
  }
  rope.type = RopeType::kLlama3;
  const double largest = *std::max_element(divisors.begin(), divisors.end());
  rope.factor = file.number(kLlama3Factor).value_or(largest);
  rope.low_freq_factor = file.number(kLlama3LowFreqFactor).value_or(1.0);
  rope.high_freq_factor = file.number(kLlama3HighFreqFactor).value_or(4.0);
  rope.original_max_position_embeddings = file.integer(kLlama3OriginalContext).value_or(8192);
  check(matches(divisors, llama3_rope_divisors(rope, head_dim)),
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

/// YaRN's factor on cos and sin, as transformers computes it.
double yarn_attention_factor(const RopeConfig& rope) {
  if (rope.attention_factor) {
    return *rope.attention_factor;
  }
  const bool has_both =
      rope.mscale.value_or(0.0) != 0.0 && rope.mscale_all_dim.value_or(0.0) != 0.0;
  return has_both
             ? yarn_scale(rope.factor, *rope.mscale) / yarn_scale(rope.factor, *rope.mscale_all_dim)
             : yarn_scale(rope.factor);
}

void write_yarn(const RopeConfig& rope, const std::string& prefix, GgufHeader& header) {
  check(rope.truncate,
        "YaRN with truncate false cannot be written as GGUF: llama.cpp always rounds");
  header.add_uint32(prefix + "original_context_length", rope.original_max_position_embeddings);
  header.add_float32(prefix + "yarn_beta_fast", rope.beta_fast);
  header.add_float32(prefix + "yarn_beta_slow", rope.beta_slow);
  const double usual = yarn_scale(rope.factor);
  const double attention_factor = yarn_attention_factor(rope);
  if (attention_factor != usual) {
    header.add_float32(prefix + "yarn_attn_factor", attention_factor);
    header.add_float32(prefix + "attn_factor", attention_factor / usual);
  }
}

}  // namespace

RopeConfig read_gguf_rope(const GgufFile& file,
                          const GgufModelKeys& keys,
                          const ModelConfig& config) {
  RopeConfig rope = read_scaling(keys, config.max_position_embeddings);
  if (const GgufTensor* divisors = file.find_tensor(kRopeFreqsName)) {
    read_llama3_rope(file, *divisors, config.head_dim, rope);
  }
  return rope;
}

void write_gguf_rope(const ModelConfig& config, GgufHeader& header) {
  const std::string prefix = std::string(architecture_name(config.architecture)) + ".rope.";
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
