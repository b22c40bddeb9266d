#include "checkpoint/gguf_checkpoint.h"

#include <cmath>

#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/gguf_quants.h"
#include "checkpoint/gguf_rope.h"
#include "gguf_fixtures.h"
#include "hf_fixtures.h"

namespace ssa {
namespace {

uint64_t fnv1a(std::span<const std::byte> bytes) {
  uint64_t state = 0xCBF29CE484222325;
  for (const std::byte byte : bytes) {
    state = (state ^ std::to_integer<uint64_t>(byte)) * 0x100000001B3;
  }
  return state;
}

std::vector<float> as_floats(const HostTensor& tensor) {
  std::vector<float> floats(tensor.bytes.size() / dtype_size(tensor.dtype));
  const GgufType type = tensor.dtype == DType::kF32   ? GgufType::kF32
                        : tensor.dtype == DType::kF16 ? GgufType::kF16
                                                      : GgufType::kBF16;
  dequantize(type, tensor.bytes, floats);
  return floats;
}

TEST(GgufCheckpoint, ReadsAModelOfTheGgufPackage) {
  const auto model = open_checkpoint(golden("gguf/model.gguf"));
  EXPECT_TRUE(model->format().starts_with("GGUF ")) << model->format();
  const ModelConfig& config = model->config();
  EXPECT_EQ(config.architecture, Architecture::kLlama);
  EXPECT_EQ(config.hidden_size, 32);
  EXPECT_EQ(config.intermediate_size, 64);
  EXPECT_EQ(config.n_heads, 2);
  EXPECT_EQ(config.n_kv_heads, 1);
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_EQ(config.vocab_size, 48);
  EXPECT_EQ(config.max_position_embeddings, 256);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.dtype, std::nullopt);
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_EQ(config.eos_token_ids, std::vector<int64_t>{0});
  EXPECT_TRUE(config.raw.is_null());
  EXPECT_EQ(model->chat_template(), "{{ messages }}");
  EXPECT_EQ(dump_json(model->generation_config()), R"({"bos_token_id":1,"eos_token_id":0})");
  check_tensors(*model);

  const Json expected = read_json_file(golden("gguf/model.json"));
  EXPECT_EQ(model->tensor_names().size(), expected.size());
  for (const auto& item : expected.items()) {
    ASSERT_TRUE(model->has_tensor(item.key()));
    EXPECT_EQ(Json(model->tensor_shape(item.key())), item.value()["shape"]) << item.key();
    EXPECT_EQ(model->tensor_dtype(item.key()), model->tensor(item.key()).dtype) << item.key();
    const std::vector<float> floats = as_floats(model->tensor(item.key()));
    char hash[17];
    std::snprintf(hash, sizeof hash, "%016lx", fnv1a(std::as_bytes(std::span(floats))));
    EXPECT_EQ(hash, item.value()["hash"]) << item.key();
  }
  expect_error([&] { model->tensor("lm_head.weight"); }, {"model.gguf", "lm_head.weight"});
}

TEST(GgufCheckpoint, MapsWhatNeedsNoWork) {
  const auto file = std::make_shared<const GgufFile>(golden("gguf/model.gguf"));
  const GgufCheckpoint model(file);
  const auto is_mapped = [&](const std::string& name) {
    return model.tensor(name).bytes.data() == model.stored_tensor(name).bytes.data();
  };
  EXPECT_TRUE(is_mapped("model.norm.weight"));
  EXPECT_TRUE(is_mapped("model.layers.0.self_attn.v_proj.weight"));
  EXPECT_EQ(model.tensor("model.layers.0.self_attn.v_proj.weight").dtype, DType::kF16);
  EXPECT_FALSE(is_mapped("model.layers.0.self_attn.k_proj.weight"));  // rows in another order
  EXPECT_EQ(model.tensor("model.layers.0.self_attn.k_proj.weight").dtype, DType::kBF16);
  EXPECT_EQ(model.tensor("model.embed_tokens.weight").dtype, DType::kF32);
}

TEST(GgufNames, ThereAndBack) {
  EXPECT_EQ(hf_tensor_name("blk.12.attn_q.bias"), "model.layers.12.self_attn.q_proj.bias");
  EXPECT_EQ(hf_tensor_name("token_embd.weight"), "model.embed_tokens.weight");
  for (const char* name : {"token_embd.weight",
                           "output_norm.weight",
                           "output.weight",
                           "blk.0.attn_norm.weight",
                           "blk.3.attn_v.weight",
                           "blk.3.attn_output.weight",
                           "blk.0.attn_q_norm.weight",
                           "blk.7.attn_gate.weight",
                           "blk.10.ffn_norm.weight",
                           "blk.1.ffn_up.bias"}) {
    ASSERT_TRUE(hf_tensor_name(name).has_value()) << name;
    EXPECT_EQ(gguf_tensor_name(*hf_tensor_name(name)), name);
  }
  for (const char* name : {"",
                           "blk.",
                           "blk.x.attn_q.weight",
                           "blk.0.attn_q",
                           "blk.0.attn_q.scale",
                           "blk.0.weight",
                           "blk..attn_q.weight",
                           "rope_freqs.weight",
                           "blk.0.ffn_gate_exps.weight"}) {
    EXPECT_EQ(hf_tensor_name(name), std::nullopt) << name;
  }
}

TEST(GgufNames, HeadsAreInterleaved) {
  const std::string hf = "a0a1b0b1A0A1B0B1";  // two heads of four rows of two bytes
  const std::string gguf = "a0b0a1b1A0B0A1B1";
  std::string out(hf.size(), '?');
  interleave_heads(std::as_bytes(std::span(hf)), std::as_writable_bytes(std::span(out)), 2, 2);
  EXPECT_EQ(out, gguf);
  split_interleaved_heads(
      std::as_bytes(std::span(gguf)), std::as_writable_bytes(std::span(out)), 2, 2);
  EXPECT_EQ(out, hf);
}

ModelConfig config_of(const GgufHeader& header, const std::string& data = "") {
  const std::string bytes = header.bytes() + data;
  return read_gguf_config(parse_gguf(bytes));
}

TEST(GgufConfig, DefaultsOfMissingKeys) {
  const ModelConfig config = config_of(tiny_llama_header());
  EXPECT_EQ(config.n_kv_heads, 2);
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_EQ(config.rope.type, RopeType::kDefault);
  EXPECT_EQ(config.bos_token_id, std::nullopt);
  EXPECT_TRUE(config.tie_word_embeddings);
}

TEST(GgufConfig, MissingKeysAreNamed) {
  for (const char* key : {"block_count",
                          "context_length",
                          "embedding_length",
                          "feed_forward_length",
                          "attention.head_count",
                          "vocab_size"}) {
    expect_error([&] { config_of(tiny_llama_header(key)); },
                 {"x.gguf: ", std::string("'llama.") + key + "'", "missing"});
  }
  expect_error([] { config_of(GgufHeader()); }, {"general.architecture"});
  expect_error([] { config_of(tiny_llama_header("", "gemma3")); },
               {"'gemma3'", "llama, qwen2, qwen3, llama-nsa"});
}

TEST(GgufConfig, GistSettingsAreAnObject) {
  for (const auto& [text, message] :
       {std::pair{"{\"chunk\": 8", "at column "}, {"[8]", "object"}}) {
    GgufHeader header = tiny_llama_header();
    header.add_string("ssa.gist", text);
    expect_error([&] { config_of(header); }, {"x.gguf: key 'ssa.gist': ", message});
  }
}

TEST(GgufConfig, RefusesWhatIsNotSupported) {
  const auto refuses = [](const char* key, int64_t value, std::vector<std::string> message) {
    GgufHeader header = tiny_llama_header();
    header.add_uint32(key, value);
    message.push_back("x.gguf: ");
    expect_error([&] { config_of(header); }, message);
  };
  refuses("llama.expert_count", 8, {"expert_count", "8"});
  refuses("llama.attention.sliding_window", 128, {"sliding_window", "128"});
  refuses("llama.rope.dimension_count", 16, {"rope.dimension_count", "16", "32"});
  refuses("llama.attention.value_length", 64, {"value_length", "64", "32"});
  refuses("llama.attention.key_length", 3, {"head_dim", "3"});
  refuses("llama.attention.head_count_kv", 3, {"num_key_value_heads", "3"});
  refuses("tokenizer.ggml.bos_token_id", 8, {"bos_token_id", "8"});
  GgufHeader longrope = tiny_llama_header();
  longrope.add_string("llama.rope.scaling.type", "longrope");
  expect_error([&] { config_of(longrope); }, {"'longrope'", "none, linear, yarn"});
}

TEST(GgufConfig, NoTokenIsNoError) {
  GgufHeader header = tiny_llama_header();
  header.add_uint32("tokenizer.ggml.bos_token_id", 0xFFFFFFFF);
  EXPECT_EQ(config_of(header).bos_token_id, std::nullopt);
}

TEST(GgufConfig, LinearAndYarn) {
  GgufHeader linear = tiny_llama_header();
  linear.add_float32("llama.rope.scaling.factor", 2.0);
  EXPECT_EQ(config_of(linear).rope.type, RopeType::kLinear);
  EXPECT_EQ(config_of(linear).rope.factor, 2.0);

  GgufHeader yarn = tiny_llama_header();
  yarn.add_string("llama.rope.scaling.type", "yarn");
  yarn.add_float32("llama.rope.scaling.factor", 4.0);
  yarn.add_uint32("llama.rope.scaling.original_context_length", 64);
  EXPECT_EQ(config_of(yarn).rope.type, RopeType::kYarn);
  EXPECT_EQ(config_of(yarn).rope.original_max_position_embeddings, 64);
  EXPECT_EQ(config_of(yarn).rope.attention_factor, std::nullopt);
  yarn.add_float32("llama.rope.scaling.attn_factor", 0.5);
  EXPECT_NEAR(*config_of(yarn).rope.attention_factor, 0.5 * (0.1 * std::log(4.0) + 1), 1e-12);
}

/// As Llama 3.1 has it, but for the factor.
RopeConfig llama3_rope(double factor) {
  RopeConfig rope;
  rope.type = RopeType::kLlama3;
  rope.theta = 500000.0;
  rope.factor = factor;
  rope.original_max_position_embeddings = 8192;
  return rope;
}

/// The rope that is read from a llama whose rope_freqs.weight holds these numbers.
RopeConfig rope_from(const std::vector<float>& divisors) {
  GgufHeader header = tiny_llama_header();
  header.add_float32("llama.rope.freq_base", 500000.0);
  header.add_tensor(
      "rope_freqs.weight", GgufType::kF32, std::vector<int64_t>{std::ssize(divisors)}, 64);
  std::string data(divisors.size() * sizeof(float), '\0');
  std::memcpy(data.data(), divisors.data(), data.size());
  return config_of(header, data).rope;
}

TEST(GgufConfig, RecognisesLlama3Scaling) {
  for (const double factor : {8.0, 32.0}) {
    const RopeConfig original = llama3_rope(factor);
    std::vector<float> divisors = llama3_rope_divisors(original, 32);
    EXPECT_EQ(divisors.front(), 1.0F);
    EXPECT_EQ(divisors.back(), static_cast<float>(factor));
    const RopeConfig rope = rope_from(divisors);
    EXPECT_EQ(rope.type, RopeType::kLlama3);
    EXPECT_EQ(rope.factor, factor);
    EXPECT_EQ(rope.low_freq_factor, 1.0);
    EXPECT_EQ(rope.high_freq_factor, 4.0);
    EXPECT_EQ(rope.original_max_position_embeddings, 8192);
    divisors[7] *= 1.01F;
    expect_error([&] { rope_from(divisors); }, {"rope_freqs.weight", "8192"});
  }
  EXPECT_EQ(rope_from(std::vector<float>(16, 1.0F)).type, RopeType::kDefault);
  expect_error([] { rope_from(std::vector<float>(15, 1.0F)); }, {"rope_freqs.weight", "16"});
}

TEST(GgufConfig, Llama3DivisorsByHand) {
  const RopeConfig rope = llama3_rope(8.0);
  const std::vector<float> divisors = llama3_rope_divisors(rope, 32);
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double wavelength = 2 * M_PI * std::pow(500000.0, static_cast<double>(i) / 16);
    if (wavelength < 2048) {
      EXPECT_EQ(divisors[i], 1.0F);
    } else if (wavelength > 8192) {
      EXPECT_EQ(divisors[i], 8.0F);
    } else {
      const double smooth = (8192 / wavelength - 1) / 3;
      EXPECT_FLOAT_EQ(divisors[i], static_cast<float>(1 / ((1 - smooth) / 8 + smooth)));
    }
  }
}

TEST(GgufCheckpoint, UnknownTensorIsNamed) {
  GgufHeader header = tiny_llama_header();
  header.add_tensor("blk.0.ffn_gate_exps.weight", GgufType::kF32, std::vector<int64_t>{1}, 4);
  const std::string bytes = header.bytes() + "1234";
  expect_error([&] { GgufCheckpoint(std::make_shared<const GgufFile>(parse_gguf(bytes))); },
               {"x.gguf", "'blk.0.ffn_gate_exps.weight'"});
}

TEST(GgufCheckpoint, HeadsThatDoNotShareTheRows) {
  GgufHeader header = tiny_llama_header();
  header.add_tensor("blk.0.attn_q.weight", GgufType::kF32, std::vector<int64_t>{7, 1}, 28);
  const std::string bytes = header.bytes() + std::string(28, 'x');
  const GgufCheckpoint model(std::make_shared<const GgufFile>(parse_gguf(bytes)));
  expect_error([&] { model.tensor("model.layers.0.self_attn.q_proj.weight"); },
               {"blk.0.attn_q.weight", "7 rows", "2 heads"});
}

}  // namespace
}  // namespace ssa
