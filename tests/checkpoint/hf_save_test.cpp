#include "checkpoint/hf_save.h"

#include <fstream>

#include "checkpoint/float_convert.h"
#include "hf_fixtures.h"

namespace ssa {
namespace {

namespace fs = std::filesystem;

using HfSave = FolderTest;

void expect_same_tensors(const Checkpoint& a, const Checkpoint& b) {
  ASSERT_EQ(a.tensor_names(), b.tensor_names());
  for (const std::string& name : a.tensor_names()) {
    EXPECT_EQ(a.tensor(name).dtype, b.tensor(name).dtype) << name;
    EXPECT_TRUE(std::ranges::equal(a.tensor(name).bytes, b.tensor(name).bytes)) << name;
  }
}

TEST_F(HfSave, KeepsEverything) {
  write_tiny_model(folder_ / "in");
  write_file(folder_ / "in/generation_config.json", R"({"eos_token_id": [3, 4]})");
  write_file(folder_ / "in/tokenizer.json", R"({"version": "1.0"})");
  write_file(folder_ / "in/tokenizer_config.json", R"({"model_max_length": 64})");
  write_file(folder_ / "in/chat_template.jinja", "{{ messages }}\n");
  const auto in = open_hf_checkpoint(folder_ / "in");
  int64_t last_done = 0;
  int64_t last_total = 0;
  const auto progress = [&](int64_t done, int64_t total) {
    EXPECT_GT(done, last_done);
    last_done = done;
    last_total = total;
  };
  save_hf_checkpoint(*in, folder_ / "out/", {.shard_bytes = 4000, .progress = progress});
  EXPECT_EQ(last_done, last_total);
  EXPECT_EQ(file_names(), (std::vector<std::string>{"in", "out"}));
  EXPECT_TRUE(fs::exists(folder_ / "out/model.safetensors.index.json"));
  const auto out = open_hf_checkpoint(folder_ / "out");
  expect_same_tensors(*in, *out);
  EXPECT_EQ(out->config().raw, in->config().raw);
  EXPECT_EQ(out->generation_config(), in->generation_config());
  EXPECT_EQ(out->tokenizer_json(), in->tokenizer_json());
  EXPECT_EQ(out->tokenizer_config(), in->tokenizer_config());
  EXPECT_EQ(out->chat_template(), in->chat_template());
}

TEST_F(HfSave, TemplateStaysWhereItWas) {
  write_tiny_model(folder_ / "in");
  write_file(folder_ / "in/tokenizer_config.json", R"({"chat_template": "T"})");
  save_hf_checkpoint(*open_hf_checkpoint(folder_ / "in"), folder_ / "out");
  EXPECT_FALSE(fs::exists(folder_ / "out/chat_template.jinja"));
  EXPECT_EQ(open_hf_checkpoint(folder_ / "out")->chat_template(), "T");
}

TEST_F(HfSave, ConvertsFloatsAndSaysSo) {
  write_tiny_model(folder_ / "in");
  const auto in = open_hf_checkpoint(folder_ / "in");
  save_hf_checkpoint(*in, folder_ / "out", {.dtype = DType::kBF16});
  const auto out = open_hf_checkpoint(folder_ / "out");
  EXPECT_EQ(out->config().dtype, DType::kBF16);
  EXPECT_EQ(out->config().raw["torch_dtype"], "bfloat16");
  EXPECT_EQ(out->tensor_bytes() * 2, in->tensor_bytes());
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  const HostTensor expected = convert_floats(in->tensor(name), DType::kBF16, "x");
  EXPECT_TRUE(std::ranges::equal(out->tensor(name).bytes, expected.bytes));
}

TEST_F(HfSave, TiedHeadIsWrittenOnceIfItIsTheEmbedding) {
  Json config = tiny_config();
  std::vector<NamedTensor> tensors = tiny_tensors(config);
  ASSERT_EQ(tensors.back().name, "lm_head.weight");
  config["tie_word_embeddings"] = true;
  const auto head_is_saved = [&](const std::string& name) {
    write_file(folder_ / "in/config.json", dump_json(config));
    write_safetensors(folder_ / "in/model.safetensors", tensors);
    save_hf_checkpoint(*open_hf_checkpoint(folder_ / "in"), folder_ / name);
    return open_hf_checkpoint(folder_ / name)->has_tensor("lm_head.weight");
  };
  fs::create_directory(folder_ / "in");
  EXPECT_TRUE(head_is_saved("differs"));
  tensors.back().tensor = tensors.front().tensor;
  EXPECT_FALSE(head_is_saved("same"));
}

TEST_F(HfSave, RefusesWhatIsThere) {
  write_tiny_model(folder_ / "in");
  const auto in = open_hf_checkpoint(folder_ / "in");
  expect_error([&] { save_hf_checkpoint(*in, folder_ / "in"); }, {"in", "not an empty folder"});
  write_file(folder_ / "file", "x");
  expect_error([&] { save_hf_checkpoint(*in, folder_ / "file"); }, {"file", "not an empty folder"});
  expect_error([&] { save_hf_checkpoint(*in, folder_ / "no/out"); }, {"no/out"});
  fs::create_directory(folder_ / "empty");
  EXPECT_NO_THROW(save_hf_checkpoint(*in, folder_ / "empty"));
}

TEST_F(HfSave, FailureLeavesNothing) {
  Json config = tiny_config();
  std::vector<NamedTensor> tensors = tiny_tensors(config);
  tensors[3].tensor = make_tensor<float>(DType::kF32, {1}, {1e30F});
  fs::create_directory(folder_ / "in");
  write_file(folder_ / "in/config.json", dump_json(config));
  write_safetensors(folder_ / "in/model.safetensors", tensors);
  const auto in = open_hf_checkpoint(folder_ / "in");
  expect_error(
      [&] {
        save_hf_checkpoint(*in, folder_ / "out", {.dtype = DType::kF16, .shard_bytes = 1000});
      },
      {tensors[3].name, "F16"});
  EXPECT_EQ(file_names(), std::vector<std::string>{"in"});
}

}  // namespace
}  // namespace ssa
