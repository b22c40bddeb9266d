#include "checkpoint/model_config.h"

#include "checkpoint/rope_config.h"
#include "hf_fixtures.h"

namespace ssa {
namespace {

/// The same facts in the golden file's form.
Json meaning(const ModelConfig& config) {
  return {{"hidden_size", config.hidden_size},
          {"intermediate_size", config.intermediate_size},
          {"n_layers", config.n_layers},
          {"n_heads", config.n_heads},
          {"n_kv_heads", config.n_kv_heads},
          {"head_dim", config.head_dim},
          {"vocab_size", config.vocab_size},
          {"max_position_embeddings", config.max_position_embeddings},
          {"rms_norm_eps", config.rms_norm_eps},
          {"tie_word_embeddings", config.tie_word_embeddings},
          {"attention_bias", config.attention_bias},
          {"attention_output_bias", config.attention_output_bias},
          {"mlp_bias", config.mlp_bias},
          {"dtype", config.dtype ? Json(config_dtype_name(*config.dtype)) : Json()},
          {"bos_token_id", config.bos_token_id ? Json(*config.bos_token_id) : Json()},
          {"eos_token_ids", config.eos_token_ids}};
}

void expect_meaning(const ModelConfig& config, const Json& expected, const std::string& name) {
  const Json found = meaning(config);
  const Json rope = rope_parameters(config.rope);
  for (const auto& item : expected.items()) {
    if (item.key() != "rope") {
      EXPECT_EQ(found[item.key()], item.value()) << name << ": " << item.key();
    }
  }
  for (const auto& item : expected["rope"].items()) {
    if (item.key() != "type") {
      EXPECT_EQ(rope[item.key()], item.value()) << name << ": rope " << item.key();
    }
  }
}

TEST(ModelConfig, MeansWhatTransformersTakesItToMean) {
  const Json golden_file = read_json_file(golden("configs/configs.json"));
  ASSERT_GT(golden_file["cases"].size(), 10u);
  for (const Json& item : golden_file["cases"]) {
    const auto name = item["name"].get<std::string>();
    const ModelConfig config = parse_hf_config(item["config"], nullptr);
    expect_meaning(config, item["expected"], name);
    // Saved as it came, and saved anew: the same meaning.
    expect_meaning(
        parse_hf_config(to_hf_config(config), nullptr), item["expected"], name + ", saved");
    ModelConfig fresh = config;
    fresh.raw = nullptr;
    expect_meaning(
        parse_hf_config(to_hf_config(fresh), nullptr), item["expected"], name + ", written anew");
  }
}

TEST(ModelConfig, GenerationConfigAddsEndTokens) {
  Json config = tiny_config();
  config["eos_token_id"] = 5;
  const Json generation = {{"eos_token_id", {7, 5, 9}}, {"bos_token_id", 3}};
  const ModelConfig parsed = parse_hf_config(config, generation);
  EXPECT_EQ(parsed.eos_token_ids, (std::vector<int64_t>{5, 7, 9}));
  EXPECT_EQ(parsed.bos_token_id, 3);
}

TEST(ModelConfig, LlamaNsa) {
  Json config = tiny_config();
  config["model_type"] = "llama-nsa";
  config["architectures"] = {"LlamaNSAForCausalLM"};
  EXPECT_EQ(parse_hf_config(config, nullptr).nsa_inference_mode, "sparse");
  config["block_size"] = 64;
  config["block_counts"] = 8;
  config["window_size"] = 128;
  config["inference_mode"] = "full";
  ModelConfig parsed = parse_hf_config(config, nullptr);
  parsed.raw = nullptr;
  parsed = parse_hf_config(to_hf_config(parsed), nullptr);
  EXPECT_EQ(parsed.architecture, Architecture::kLlamaNsa);
  EXPECT_EQ(parsed.nsa_block_size, 64);
  EXPECT_EQ(parsed.nsa_block_counts, 8);
  EXPECT_EQ(parsed.nsa_window_size, 128);
  EXPECT_EQ(parsed.nsa_inference_mode, "full");
}

TEST(ModelConfig, LlamaNsaIsSavedAsChanged) {
  Json config = tiny_config();
  config["model_type"] = "llama-nsa";
  config["architectures"] = {"LlamaNSAForCausalLM"};
  config["window_size"] = 128;
  ModelConfig parsed = parse_hf_config(config, nullptr);
  parsed.nsa_block_counts = 4;
  parsed.nsa_inference_mode = "full";
  const ModelConfig again = parse_hf_config(to_hf_config(parsed), nullptr);
  EXPECT_EQ(again.nsa_block_size, 16);
  EXPECT_EQ(again.nsa_block_counts, 4);
  EXPECT_EQ(again.nsa_window_size, 128);
  EXPECT_EQ(again.nsa_inference_mode, "full");
}

TEST(ModelConfig, LlamaNsaRefusesBadValues) {
  const std::pair<const char*, Json> cases[] = {{"block_size", 0},
                                                {"block_size", "16"},
                                                {"block_counts", -1},
                                                {"window_size", -128},
                                                {"inference_mode", "dense"},
                                                {"inference_mode", 1}};
  for (const auto& [key, value] : cases) {
    Json config = tiny_config();
    config["model_type"] = "llama-nsa";
    config["architectures"] = {"LlamaNSAForCausalLM"};
    config[key] = value;
    expect_error([&] { parse_hf_config(config, nullptr); }, {key});
  }
}

TEST(ModelConfig, ArchitectureByClassAlone) {
  Json config = tiny_config();
  config.erase("model_type");
  EXPECT_EQ(parse_hf_config(config, nullptr).architecture, Architecture::kLlama);
}

TEST(ModelConfig, SavedInItsOwnDialect) {
  Json config = tiny_config();
  config["gist"] = {{"chunk", 8}};
  ModelConfig old_dialect = parse_hf_config(config, nullptr);
  old_dialect.dtype = DType::kBF16;
  old_dialect.vocab_size = 19;
  const Json saved = to_hf_config(old_dialect);
  config["torch_dtype"] = "bfloat16";
  config["vocab_size"] = 19;
  EXPECT_EQ(saved, config);

  config.erase("torch_dtype");
  config.erase("rope_theta");
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 500.0}};
  ModelConfig new_dialect = parse_hf_config(config, nullptr);
  new_dialect.dtype = DType::kF16;
  EXPECT_EQ(to_hf_config(new_dialect)["dtype"], "float16");
  EXPECT_FALSE(to_hf_config(new_dialect).contains("torch_dtype"));
}

struct BadConfig {
  const char* name;
  const char* patch;  // merged into the tiny configuration; null removes a key
  std::vector<std::string> message;
};

const BadConfig kBadConfigs[] = {
    {"UnknownModelType",
     R"({"model_type":"gpt2","architectures":["GPT2LMHeadModel"]})",
     {"gpt2", "GPT2LMHeadModel", "llama", "qwen2", "qwen3", "llama-nsa"}},
    {"OtherHead",
     R"({"architectures":["LlamaForSequenceClassification"]})",
     {"LlamaForSequenceClassification", "LlamaForCausalLM"}},
    {"NoArchitecture", R"({"model_type":null,"architectures":null})", {"model_type", "llama"}},
    {"NoHiddenSize", R"({"hidden_size":null})", {"'hidden_size'", "missing"}},
    {"TextAsSize", R"({"num_hidden_layers":"2"})", {"'num_hidden_layers'", "integer"}},
    {"ZeroLayers", R"({"num_hidden_layers":0})", {"'num_hidden_layers'", "1 to 4096", "0"}},
    {"NegativeVocabulary", R"({"vocab_size":-5})", {"'vocab_size'", "-5"}},
    {"HugeVocabulary", R"({"vocab_size":9223372036854775807})", {"'vocab_size'"}},
    {"BeyondInt64", R"({"vocab_size":18446744073709551615})", {"'vocab_size'"}},
    {"HeadsNotDivisible",
     R"({"num_attention_heads":3,"num_key_value_heads":2})",
     {"'num_attention_heads'", "3", "2"}},
    {"MoreKvHeads", R"({"num_key_value_heads":4})", {"'num_key_value_heads'", "1 to 2", "4"}},
    {"OddHeadDim", R"({"head_dim":33})", {"'head_dim'", "even", "33"}},
    {"SmallHeadDim", R"({"head_dim":-2})", {"'head_dim'", "2 to 512", "-2"}},
    {"LargeHeadDim", R"({"head_dim":514})", {"'head_dim'", "2 to 512", "514"}},
    {"HiddenNotDivisible",
     R"({"head_dim":null,"num_attention_heads":3,"num_key_value_heads":3})",
     {"'hidden_size'", "8", "3"}},
    {"ZeroHeads", R"({"head_dim":null,"num_attention_heads":0})", {"num_attention_heads"}},
    {"ZeroEps", R"({"rms_norm_eps":0})", {"'rms_norm_eps'"}},
    {"Activation", R"({"hidden_act":"gelu"})", {"'hidden_act'", "gelu", "silu"}},
    {"Tied", R"({"tie_word_embeddings":"yes"})", {"'tie_word_embeddings'", "true or false"}},
    {"Quantised", R"({"quantization_config":{"bits":4}})", {"quantization_config"}},
    {"NegativeTheta", R"({"rope_theta":-1.0})", {"'rope_theta'", "-1"}},
    {"UnknownRope",
     R"({"rope_scaling":{"rope_type":"longrope"}})",
     {"'longrope'", "default, linear, llama3, yarn"}},
    {"NoFactor", R"({"rope_scaling":{"rope_type":"linear"}})", {"'factor'", "missing", "linear"}},
    {"ZeroFactor", R"({"rope_scaling":{"rope_type":"linear","factor":0}})", {"'factor'"}},
    {"NoLowFactor",
     R"({"rope_scaling":{"rope_type":"llama3","factor":8.0}})",
     {"'low_freq_factor'", "llama3"}},
    {"EqualFactors",
     R"({"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":4,"high_freq_factor":4}})",
     {"'high_freq_factor'", "above 4"}},
    {"YarnBetas",
     R"({"rope_scaling":{"rope_type":"yarn","factor":8.0,"beta_fast":1,"beta_slow":2}})",
     {"'beta_fast'", "above 2"}},
    {"YarnOriginal",
     R"({"rope_scaling":{"rope_type":"yarn","factor":8.0,"original_max_position_embeddings":-4}})",
     {"'original_max_position_embeddings'", "-4"}},
    {"RopePerLayerType",
     R"({"rope_parameters":{"full_attention":{"rope_type":"default"}}})",
     {"'rope_parameters'", "full_attention"}},
    {"RopeIsText", R"({"rope_scaling":"linear"})", {"'rope_scaling'", "object"}},
    {"PartialRotation", R"({"partial_rotary_factor":0.5})", {"'partial_rotary_factor'", "0.5"}},
    {"LayerTypes",
     R"({"layer_types":["full_attention","sliding_attention"]})",
     {"'layer_types'", "sliding_attention"}},
    {"SlidingWindow",
     R"({"use_sliding_window":true,"sliding_window":32,"max_window_layers":1})",
     {"'use_sliding_window'", "false"}},
    {"DType", R"({"torch_dtype":"int8"})", {"'dtype'", "int8", "bfloat16"}},
    {"EosText", R"({"eos_token_id":"</s>"})", {"'eos_token_id'", "</s>"}},
    {"EosNegative", R"({"eos_token_id":[1,-2]})", {"'eos_token_id'", "-2"}},
};

class BadConfigs : public ::testing::TestWithParam<BadConfig> {};
INSTANTIATE_TEST_SUITE_P(Keys, BadConfigs, ::testing::ValuesIn(kBadConfigs), [](const auto& i) {
  return std::string(i.param.name);
});

TEST_P(BadConfigs, IsRefusedNamingTheKey) {
  Json config = tiny_config();
  config.merge_patch(parse_json(GetParam().patch, "patch"));
  expect_error([&] { parse_hf_config(config, nullptr); }, GetParam().message);
}

TEST(ModelConfig, NotAnObject) {
  expect_error([] { parse_hf_config(Json::array(), nullptr); }, {"object"});
}

}  // namespace
}  // namespace ssa
