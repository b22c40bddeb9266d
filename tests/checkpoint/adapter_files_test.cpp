// adapter_config.json: what is read, and what of peft's is refused by name.
#include "checkpoint/adapter_files.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "base/remove_folder.h"
#include "support/expect_error.h"

namespace ssa {
namespace {

class AdapterFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("ssa_peft_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    write_adapter(folder_, {.gist_ids = {9, 10, 11}}, nullptr, {});
    json_ = read_json_file(folder_ / "adapter_config.json");
  }
  void TearDown() override { remove_folder(folder_); }

  AdapterConfig read(const Json& json) const {
    write_file(folder_ / "adapter_config.json", dump_json(json));
    return AdapterFiles(folder_).config();
  }

  std::filesystem::path folder_;
  Json json_;
};

TEST_F(AdapterFilesTest, ReadsWhatItWrote) {
  const AdapterConfig config = read(json_);
  EXPECT_EQ(config.rank, 16);
  EXPECT_EQ(config.scale(), 2.0);
  EXPECT_EQ(config.targets, kAdaptableLayers);
  EXPECT_EQ(config.gist_ids, (std::vector<int64_t>{9, 10, 11}));
}

TEST_F(AdapterFilesTest, ReadsPeftsOtherSpellings) {
  json_["target_modules"] = {"v_proj", "q_proj"};
  json_["trainable_token_indices"] = {5, 6};
  json_["use_dora"] = false;
  json_["rank_pattern"] = Json::object();
  json_["megatron_core"] = "megatron.core";
  const AdapterConfig config = read(json_);
  EXPECT_EQ(config.targets, (std::vector<std::string>{"q_proj", "v_proj"}));
  EXPECT_EQ(config.gist_ids, (std::vector<int64_t>{5, 6}));
  EXPECT_FALSE(config.has_head_rows);
  json_["target_modules"] = "all-linear";
  EXPECT_EQ(read(json_).targets, kAdaptableLayers);
}

TEST_F(AdapterFilesTest, RefusesWhatItCannotCompute) {
  const std::vector<std::tuple<const char*, Json, const char*>> cases = {
      {"peft_type", "IA3", "peft_type is 'IA3'; supported is LORA"},
      {"use_dora", true, "use_dora (true) is not supported"},
      {"use_rslora", true, "use_rslora (true) is not supported"},
      {"bias", "all", "bias is 'all', which is not supported"},
      {"modules_to_save", {"lm_head"}, "modules_to_save ([\"lm_head\"]) is not supported"},
      {"rank_pattern", {{"q_proj", 4}}, "rank_pattern ({\"q_proj\":4}) is not supported"},
      {"layers_to_transform", {1}, "layers_to_transform ([1]) is not supported"},
      {"init_lora_weights", "pissa", "init_lora_weights \"pissa\" changes the base's weights"},
      {"target_modules", ".*proj", "target_modules must be a list of layers' names"},
      {"target_modules", {"q_proj", "lm_head"}, "target_modules names 'lm_head'; supported are "},
      {"trainable_token_indices", {{"wte", {1}}}, "trainable_token_indices names 'wte'"},
      {"r", 0, "the rank must be above 0, not 0"},
      {"a_new_feature", 1.5, "a_new_feature (1.5) is not supported"},
  };
  for (const auto& [key, value, part] : cases) {
    Json json = json_;
    json[key] = value;
    expect_error([&] { read(json); }, part);
  }
}

TEST_F(AdapterFilesTest, SaysThatAFolderHoldsNone) {
  expect_error([&] { AdapterFiles files(folder_ / "nothing"); }, "holds no adapter");
}

}  // namespace
}  // namespace ssa
