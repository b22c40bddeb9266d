#include "checkpoint/gguf_save.h"

#include <cmath>
#include <limits>

#include "checkpoint/float_convert.h"
#include "checkpoint/gguf_checkpoint.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/gguf_quants.h"
#include "hf_fixtures.h"

namespace ssa {
namespace {

namespace fs = std::filesystem;

Json small_config(const std::string& model_type) {
  return {{"model_type", model_type},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 32},
          {"vocab_size", 24},
          {"max_position_embeddings", 256},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 5000.0},
          {"eos_token_id", {5, 7}},
          {"bos_token_id", 3},
          {"tie_word_embeddings", false}};
}

class GgufSave : public FolderTest {
 protected:
  std::unique_ptr<Checkpoint> hf_model(const Json& config) {
    write_tiny_model(folder_ / "hf", config);
    return open_checkpoint(folder_ / "hf");
  }

  std::unique_ptr<Checkpoint> saved(const Checkpoint& source, const std::string& type) {
    const fs::path file = folder_ / ("model" + std::to_string(n_saved_++) + ".gguf");
    save_gguf_checkpoint(source, file, {.type = type});
    return open_checkpoint(file);
  }

  int n_saved_ = 0;
};

void expect_same_tensors(const Checkpoint& a, const Checkpoint& b) {
  ASSERT_EQ(a.tensor_names(), b.tensor_names());
  for (const std::string& name : a.tensor_names()) {
    EXPECT_EQ(a.tensor(name).dtype, b.tensor(name).dtype) << name;
    EXPECT_EQ(a.tensor_shape(name), b.tensor_shape(name)) << name;
    EXPECT_TRUE(std::ranges::equal(a.tensor(name).bytes, b.tensor(name).bytes)) << name;
  }
}

/// Everything but `raw`, as the config.json that would be written.
std::string described(ModelConfig config) {
  config.raw = nullptr;
  return dump_json(to_hf_config(config), 1);
}

class GgufSaveArchitecture : public GgufSave, public ::testing::WithParamInterface<const char*> {};

TEST_P(GgufSaveArchitecture, F32KeepsEveryBitAndTheConfiguration) {
  Json json = small_config(GetParam());
  if (std::string(GetParam()) == "llama-nsa") {
    json.update(
        {{"block_size", 8}, {"block_counts", 4}, {"window_size", 32}, {"inference_mode", "full"}});
  }
  const auto hf = hf_model(json);
  const auto gguf = saved(*hf, "");
  expect_same_tensors(*hf, *gguf);
  ModelConfig expected = hf->config();
  expected.dtype = DType::kF32;
  EXPECT_EQ(described(gguf->config()), described(expected));
  EXPECT_EQ(gguf->config().eos_token_ids, (std::vector<int64_t>{5, 7}));
  EXPECT_TRUE(gguf->tokenizer_json().is_null());
}

TEST_P(GgufSaveArchitecture, EveryTypeRoundTripsAsStored) {
  const auto hf = hf_model(small_config(GetParam()));
  for (const char* type : {"f32", "f16", "bf16", "q8_0"}) {
    const auto first = saved(*hf, type);
    const auto kept = saved(*first, "");
    const auto again = saved(*kept, type);
    const auto bytes = [&](int i) {
      return read_file(folder_ / ("model" + std::to_string(i) + ".gguf"));
    };
    EXPECT_EQ(bytes(n_saved_ - 3).size(), bytes(n_saved_ - 2).size());
    for (const auto& other : {kept.get(), again.get()}) {
      const auto& a = dynamic_cast<const GgufCheckpoint&>(*first).file().tensors();
      const auto& b = dynamic_cast<const GgufCheckpoint&>(*other).file().tensors();
      ASSERT_EQ(a.size(), b.size());
      for (size_t i = 0; i < a.size(); ++i) {
        EXPECT_EQ(a[i].name, b[i].name);
        EXPECT_EQ(a[i].type, b[i].type) << a[i].name;
        EXPECT_TRUE(std::ranges::equal(a[i].bytes, b[i].bytes)) << a[i].name;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(GgufSave,
                         GgufSaveArchitecture,
                         ::testing::Values("llama", "qwen2", "qwen3", "llama-nsa"),
                         [](const auto& architecture) {
                           std::string name = architecture.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST_F(GgufSave, BlocksOfEveryFormatAreKeptBitForBit) {
  const GgufFile original(golden("gguf/model.gguf"));
  save_gguf_checkpoint(*open_checkpoint(golden("gguf/model.gguf")), folder_ / "kept.gguf", {});
  const GgufFile kept(folder_ / "kept.gguf");
  ASSERT_EQ(kept.tensors().size(), original.tensors().size());
  for (const GgufTensor& tensor : original.tensors()) {
    const GgufTensor* found = kept.find_tensor(tensor.name);
    ASSERT_NE(found, nullptr) << tensor.name;
    EXPECT_EQ(found->type, tensor.type) << tensor.name;
    EXPECT_EQ(found->shape, tensor.shape) << tensor.name;
    EXPECT_TRUE(std::ranges::equal(found->bytes, tensor.bytes)) << tensor.name;
  }
  EXPECT_EQ(kept.integer("general.file_type"), 3);
}

TEST_F(GgufSave, LlamaRowsAreInterleaved) {
  const auto hf = hf_model(small_config("llama"));
  const auto gguf = saved(*hf, "f32");
  const std::string name = "model.layers.1.self_attn.k_proj.weight";
  const auto& stored = dynamic_cast<const GgufCheckpoint&>(*gguf).stored_tensor(name);
  const size_t row_bytes = 64 * sizeof(float);
  const auto row = [&](std::span<const std::byte> bytes, size_t i) {
    return bytes.subspan(i * row_bytes, row_bytes);
  };
  const HostTensor original = hf->tensor(name);
  EXPECT_TRUE(std::ranges::equal(row(stored.bytes, 0), row(original.bytes, 0)));
  EXPECT_TRUE(std::ranges::equal(row(stored.bytes, 1), row(original.bytes, 16)));
  EXPECT_TRUE(std::ranges::equal(row(stored.bytes, 2), row(original.bytes, 1)));
  EXPECT_TRUE(std::ranges::equal(row(stored.bytes, 33), row(original.bytes, 48)));  // second head
}

TEST_F(GgufSave, BiasesOfLlamaToo) {
  Json config = small_config("llama");
  config.update({{"attention_bias", true}, {"mlp_bias", true}});
  const auto hf = hf_model(config);
  const auto gguf = saved(*hf, "q8_0");
  EXPECT_TRUE(gguf->config().attention_bias);
  EXPECT_TRUE(gguf->config().attention_output_bias);
  EXPECT_TRUE(gguf->config().mlp_bias);
  const std::string name = "model.layers.0.self_attn.q_proj.bias";
  EXPECT_TRUE(std::ranges::equal(hf->tensor(name).bytes, gguf->tensor(name).bytes));
}

TEST_F(GgufSave, NormsStayF32AndOddRowsDoNotBecomeBlocks) {
  Json config = small_config("llama");
  config["hidden_size"] = 72;  // no multiple of 32
  const auto gguf = saved(*hf_model(config), "q8_0");
  const auto& file = dynamic_cast<const GgufCheckpoint&>(*gguf).file();
  EXPECT_EQ(file.find_tensor("output_norm.weight")->type, GgufType::kF32);
  EXPECT_EQ(file.find_tensor("blk.0.attn_q.weight")->type, GgufType::kF32);
  EXPECT_EQ(file.find_tensor("blk.0.attn_output.weight")->type, GgufType::kQ8_0);
}

TEST_F(GgufSave, RopeScalingIsKept) {
  const Json llama3 = {{"rope_type", "llama3"},
                       {"factor", 4.0},
                       {"low_freq_factor", 1.5},
                       {"high_freq_factor", 5.0},
                       {"original_max_position_embeddings", 64}};
  const Json yarn = {{"rope_type", "yarn"},
                     {"factor", 4.0},
                     {"original_max_position_embeddings", 64},
                     {"attention_factor", 1.25},
                     {"beta_fast", 16.0}};
  const Json linear = {{"rope_type", "linear"}, {"factor", 2.0}};
  for (const Json& scaling : {llama3, yarn, linear}) {
    Json config = small_config("llama");
    config["rope_scaling"] = scaling;
    const auto hf = hf_model(config);
    const auto gguf = saved(*hf, "f32");
    ModelConfig expected = hf->config();
    expected.dtype = DType::kF32;
    EXPECT_EQ(described(gguf->config()), described(expected));
    expect_same_tensors(*gguf, *saved(*gguf, ""));
  }
  Json config = small_config("qwen2");
  config["rope_scaling"] = llama3;
  expect_error([&] { saved(*hf_model(config), "f32"); }, {"llama3", "qwen2"});
  config = small_config("llama");
  config["rope_scaling"] = yarn;
  config["rope_scaling"]["truncate"] = false;
  expect_error([&] { saved(*hf_model(config), "f32"); }, {"truncate"});
}

TEST_F(GgufSave, WhatCannotBeSavedLeavesNoFile) {
  const auto hf = hf_model(small_config("llama"));
  const fs::path file = folder_ / "out.gguf";
  expect_error([&] { save_gguf_checkpoint(*hf, file, {.type = "q4_0"}); },
               {"'q4_0'", "f32, f16, bf16, q8_0"});

  auto tensors = tiny_tensors(small_config("llama"));
  std::vector<float> weights(64 * 24, 1.0F);
  weights[100] = std::numeric_limits<float>::quiet_NaN();
  tensors[0].tensor = make_tensor(DType::kF32, {24, 64}, weights);
  write_safetensors(folder_ / "hf/model.safetensors", tensors);
  expect_error(
      [&] { save_gguf_checkpoint(*open_checkpoint(folder_ / "hf"), file, {.type = "q8_0"}); },
      {"token_embd.weight", "Q8_0"});
  tensors.pop_back();
  write_safetensors(folder_ / "hf/model.safetensors", tensors);
  expect_error([&] { save_gguf_checkpoint(*open_checkpoint(folder_ / "hf"), file, {}); },
               {"lm_head.weight", "expected [24, 64]"});
  EXPECT_EQ(file_names(), std::vector<std::string>{"hf"});
}

TEST_F(GgufSave, ReportsProgress) {
  int64_t last = 0;
  int64_t whole = 0;
  save_gguf_checkpoint(*hf_model(small_config("qwen3")),
                       folder_ / "out.gguf",
                       {.type = "bf16", .progress = [&](int64_t done, int64_t total) {
                          EXPECT_GT(done, last);
                          last = done;
                          whole = total;
                        }});
  EXPECT_EQ(last, whole);
  EXPECT_GT(whole, 0);
}

}  // namespace
}  // namespace ssa
