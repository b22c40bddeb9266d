#include "checkpoint/checkpoint.h"
#include "checkpoint/expected_tensors.h"
#include "hf_fixtures.h"

namespace ssa {
namespace {

namespace fs = std::filesystem;

using HfCheckpointTest = FolderTest;

TEST_F(HfCheckpointTest, ReadsTensorsAndFiles) {
  write_tiny_model(folder_);
  write_file(folder_ / "generation_config.json", R"({"eos_token_id": [3, 4]})");
  write_file(folder_ / "tokenizer.json", R"({"version": "1.0"})");
  write_file(folder_ / "tokenizer_config.json", R"({"chat_template": "from config"})");
  const auto checkpoint = open_checkpoint(folder_);
  EXPECT_EQ(checkpoint->format(), "safetensors");
  EXPECT_EQ(checkpoint->config().eos_token_ids, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(checkpoint->tokenizer_json()["version"], "1.0");
  EXPECT_EQ(checkpoint->chat_template(), "from config");
  EXPECT_NO_THROW(check_tensors(*checkpoint));
  const HostTensor norm = checkpoint->tensor("model.norm.weight");
  EXPECT_EQ(norm.shape, std::vector<int64_t>{8});
  EXPECT_EQ(checkpoint->tensor_dtype("model.norm.weight"), DType::kF32);
  EXPECT_EQ(checkpoint->tensor_names().size(), 21u);
}

TEST_F(HfCheckpointTest, ChatTemplateByFileThenByName) {
  write_tiny_model(folder_);
  EXPECT_EQ(open_checkpoint(folder_)->chat_template(), std::nullopt);
  EXPECT_TRUE(open_checkpoint(folder_)->tokenizer_json().is_null());
  const auto with_config = [&](const std::string& value) {
    write_file(folder_ / "tokenizer_config.json", "{\"chat_template\": " + value + "}");
    return open_checkpoint(folder_)->chat_template();
  };
  EXPECT_EQ(with_config(
                R"([{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}])"),
            "D");
  EXPECT_EQ(with_config(R"([{"name": "tool_use", "template": "T"}])"), "T");
  EXPECT_EQ(with_config(R"([{"name": "a", "template": "A"}, {"name": "b", "template": "B"}])"),
            std::nullopt);
  EXPECT_EQ(with_config("null"), std::nullopt);
  expect_error([&] { with_config("3"); }, {"tokenizer_config.json", "chat_template"});
  write_file(folder_ / "chat_template.jinja", "J\n");
  EXPECT_EQ(with_config("\"S\""), "J\n");
}

TEST_F(HfCheckpointTest, MissingAndMisshapenTensorsAreListed) {
  Json config = tiny_config();
  std::vector<NamedTensor> tensors = tiny_tensors(config);
  tensors.erase(tensors.begin());                                                 // the embedding
  tensors.back().tensor = make_tensor<float>(DType::kF32, {2, 2}, {1, 2, 3, 4});  // the head
  write_file(folder_ / "config.json", dump_json(config));
  write_safetensors(folder_ / "model.safetensors", tensors);
  expect_error([&] { check_tensors(*open_checkpoint(folder_)); },
               {"model.embed_tokens.weight: expected [16, 8], found nothing",
                "lm_head.weight: expected [16, 8], found [2, 2]",
                "llama"});
  config["num_hidden_layers"] = 5;
  write_file(folder_ / "config.json", dump_json(config));
  expect_error([&] { check_tensors(*open_checkpoint(folder_)); }, {"and 26 more"});
}

TEST_F(HfCheckpointTest, FoldersThatAreNoCheckpoint) {
  const auto open = [&] { open_checkpoint(folder_); };
  expect_error([&] { open_checkpoint(folder_ / "none"); }, {"none", "no such"});
  expect_error(open, {"model.safetensors"});
  write_file(folder_ / "pytorch_model.bin", "x");
  expect_error(open, {"pytorch_model.bin", "safetensors"});
  write_file(folder_ / "consolidated.safetensors", "x");
  expect_error(open, {"consolidated.safetensors"});
  expect_error([&] { open_checkpoint(folder_ / "pytorch_model.bin"); },
               {"pytorch_model.bin", ".gguf"});
  expect_error([&] { open_checkpoint(folder_ / "consolidated.safetensors"); }, {"folder"});
  write_file(folder_ / "model.safetensors", "x");
  expect_error(open, {"no config.json"});
  write_file(folder_ / "config.json", "{");
  expect_error(open, {"config.json", "at column "});
  write_file(folder_ / "config.json", "{}");
  expect_error(open, {"config.json: ", "model_type"});
  write_file(folder_ / "config.json", dump_json(tiny_config()));
  expect_error(open, {"model.safetensors: ", "1 bytes"});
}

TEST_F(HfCheckpointTest, GgufFilesInAFolder) {
  write_file(folder_ / "a.gguf", "x");
  expect_error([&] { open_checkpoint(folder_); }, {"a.gguf"});  // opened, and found broken
  write_file(folder_ / "b.gguf", "x");
  expect_error([&] { open_checkpoint(folder_); }, {"2 GGUF files", "a.gguf, b.gguf"});
}

TEST(ExpectedTensors, EachArchitectureHasItsOwn) {
  const auto shapes = [](const char* patch) {
    Json config = tiny_config();
    config.merge_patch(parse_json(patch, "patch"));
    std::map<std::string, std::string> found;
    for (const ExpectedTensor& tensor : expected_tensors(parse_hf_config(config, nullptr))) {
      found[tensor.name] = format_shape(tensor.shape);
    }
    return found;
  };
  const std::string layer = "model.layers.1.";
  auto llama = shapes("{}");
  EXPECT_EQ(llama.size(), 21u);
  EXPECT_EQ(llama[layer + "self_attn.q_proj.weight"], "[64, 8]");
  EXPECT_EQ(llama[layer + "self_attn.v_proj.weight"], "[32, 8]");
  EXPECT_EQ(llama[layer + "self_attn.o_proj.weight"], "[8, 64]");
  EXPECT_EQ(llama[layer + "mlp.down_proj.weight"], "[8, 12]");
  EXPECT_EQ(shapes(R"({"tie_word_embeddings": true})").count("lm_head.weight"), 0u);

  auto biased = shapes(R"({"attention_bias": true, "mlp_bias": true})");
  EXPECT_EQ(biased[layer + "self_attn.o_proj.bias"], "[8]");
  EXPECT_EQ(biased[layer + "mlp.gate_proj.bias"], "[12]");
  EXPECT_EQ(biased.size(), 21u + 2 * 7);

  auto qwen2 = shapes(R"({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]})");
  EXPECT_EQ(qwen2[layer + "self_attn.k_proj.bias"], "[32]");
  EXPECT_EQ(qwen2.size(), 21u + 2 * 3);

  auto qwen3 = shapes(R"({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]})");
  EXPECT_EQ(qwen3[layer + "self_attn.q_norm.weight"], "[32]");
  EXPECT_EQ(qwen3.size(), 21u + 2 * 2);

  auto nsa = shapes(R"({"model_type": "llama-nsa", "architectures": ["LlamaNSAForCausalLM"]})");
  EXPECT_EQ(nsa[layer + "self_attn.g_proj.weight"], "[6, 8]");
}

}  // namespace
}  // namespace ssa
