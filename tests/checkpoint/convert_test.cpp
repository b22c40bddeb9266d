#include "checkpoint/convert.h"

#include "checkpoint/checkpoint.h"
#include "hf_fixtures.h"

namespace ssa {
namespace {

namespace fs = std::filesystem;

using Convert = FolderTest;

TEST_F(Convert, ThroughGgufAndBackKeepsTheBits) {
  write_tiny_model(folder_ / "in");
  convert_checkpoint(folder_ / "in", folder_ / "model.gguf");
  convert_checkpoint(folder_ / "model.gguf", folder_ / "out");
  const auto in = open_checkpoint(folder_ / "in");
  const auto out = open_checkpoint(folder_ / "out");
  ASSERT_EQ(in->tensor_names(), out->tensor_names());
  for (const std::string& name : in->tensor_names()) {
    EXPECT_EQ(in->tensor(name).dtype, out->tensor(name).dtype) << name;
    EXPECT_TRUE(std::ranges::equal(in->tensor(name).bytes, out->tensor(name).bytes)) << name;
  }
  EXPECT_EQ(out->config().rope.theta, 500.0);
  EXPECT_EQ(out->config().raw["torch_dtype"], "float32");
  EXPECT_TRUE(out->config().gist.is_null());
  EXPECT_FALSE(out->config().raw.contains("gist"));
}

TEST_F(Convert, GistSettingsGoThroughGgufAndBack) {
  const Json gist = parse_json(R"({"token_ids": [13, 14, 15], "chunk": [4, 4], "word_aware": false,
                                   "trained_ratios": [[4, 4], 8]})",
                               "gist");
  Json config = tiny_config();
  config["gist"] = gist;
  write_tiny_model(folder_ / "in", config);
  convert_checkpoint(folder_ / "in", folder_ / "once.gguf");
  convert_checkpoint(folder_ / "once.gguf", folder_ / "twice.gguf");
  convert_checkpoint(folder_ / "twice.gguf", folder_ / "out");
  for (const char* stage : {"once.gguf", "twice.gguf", "out"}) {
    EXPECT_EQ(open_checkpoint(folder_ / stage)->config().gist, gist) << stage;
  }
  EXPECT_EQ(read_json_file(folder_ / "out" / "config.json")["gist"], gist);
}

TEST_F(Convert, TypesByTarget) {
  write_tiny_model(folder_ / "in");
  convert_checkpoint(folder_ / "in", folder_ / "f16", {.type = "f16"});
  EXPECT_EQ(open_checkpoint(folder_ / "f16")->config().dtype, DType::kF16);
  expect_error([&] { convert_checkpoint(folder_ / "in", folder_ / "x", {.type = "q8_0"}); },
               {"q8_0", ".gguf"});
  expect_error([&] { convert_checkpoint(folder_ / "in", folder_ / "x", {.type = "q4"}); },
               {"'q4'", "f32, bf16, f16, q8_0"});
  expect_error([&] { convert_checkpoint(folder_ / "in", folder_ / "x.gguf", {.type = "q4"}); },
               {"'q4'"});
  EXPECT_EQ(file_names(), (std::vector<std::string>{"f16", "in"}));
}

TEST_F(Convert, NeverOntoItself) {
  write_tiny_model(folder_ / "in");
  convert_checkpoint(folder_ / "in", folder_ / "model.gguf");
  const auto onto = [&](const fs::path& in, const fs::path& out) {
    return error_of([&] { convert_checkpoint(in, out); });
  };
  EXPECT_NE(onto(folder_ / "in", folder_ / "in/../in").find("onto itself"), std::string::npos);
  EXPECT_NE(onto(folder_ / "model.gguf", folder_ / "model.gguf").find("onto itself"),
            std::string::npos);
  EXPECT_NE(onto(folder_ / "none", folder_ / "out"), "");
}

}  // namespace
}  // namespace ssa
