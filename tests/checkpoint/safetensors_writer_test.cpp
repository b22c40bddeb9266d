#include "checkpoint/safetensors_writer.h"

#include "checkpoint/safetensors.h"
#include "hf_fixtures.h"

namespace ssa {
namespace {

using SafetensorsWriter = FolderTest;

TEST_F(SafetensorsWriter, SameBytesAsTheOfficialLibrary) {
  const SafetensorsFile original(golden("safetensors/every_type.safetensors"));
  std::vector<NamedTensor> tensors;
  for (const auto& item : original.header().tensors) {
    tensors.push_back({item.first, original.tensor(item.first)});
  }
  write_safetensors(folder_ / "copy.safetensors", tensors, original.header().metadata);
  const SafetensorsFile copy(folder_ / "copy.safetensors");
  EXPECT_EQ(copy.header().metadata, original.header().metadata);
  ASSERT_EQ(copy.header().tensors.size(), tensors.size());
  EXPECT_EQ(copy.header().data_begin % 8, 0u);
  for (const NamedTensor& expected : tensors) {
    const HostTensor found = copy.tensor(expected.name);
    EXPECT_EQ(found.dtype, expected.tensor.dtype);
    EXPECT_EQ(found.shape, expected.tensor.shape);
    EXPECT_TRUE(std::ranges::equal(found.bytes, expected.tensor.bytes)) << expected.name;
    EXPECT_EQ(copy.header().tensors.at(expected.name).begin % dtype_size(found.dtype), 0u)
        << expected.name;
  }
}

TEST_F(SafetensorsWriter, NoTensors) {
  write_safetensors(folder_ / "none.safetensors", std::vector<NamedTensor>{});
  EXPECT_EQ(SafetensorsFile(folder_ / "none.safetensors").header().metadata.at("format"), "pt");
  write_safetensors(folder_ / "none.safetensors", std::vector<NamedTensor>{}, {});
  EXPECT_EQ(std::filesystem::file_size(folder_ / "none.safetensors"), 16u);
}

TEST_F(SafetensorsWriter, FailureLeavesNothing) {
  const HostTensor tensor = make_tensor<float>(DType::kF32, {1}, {1});
  const auto path = folder_ / "x.safetensors";
  expect_error(
      [&] {
        write_safetensors(path, {{"a", tensor}, {"a", tensor}});
      },
      {"\"a\"", "taken"});
  expect_error([&] { write_safetensors(path, {{"__metadata__", tensor}}); }, {"__metadata__"});
  const std::vector<TensorSpec> specs = {{"a", DType::kF32, {1}}, {"b", DType::kF32, {2}}};
  expect_error([&] { write_safetensors(path, specs, [&](const auto&) { return tensor; }); },
               {"b", "8 bytes", "4 bytes"});
  EXPECT_EQ(file_names(), std::vector<std::string>{});
  expect_error([&] { write_safetensors(folder_ / "no" / "x", {{"a", tensor}}); }, {"no/x"});
}

TEST_F(SafetensorsWriter, ShardsHoldAtMostTheirSize) {
  std::vector<TensorSpec> specs;
  for (const char* name : {"a", "b", "c", "d", "e"}) {
    specs.push_back({name, DType::kU8, {*name == 'c' ? 25 : 4}});
  }
  const auto source = [](const TensorSpec& spec) {
    const std::vector<char> bytes(spec_bytes(spec), spec.name[0]);
    return make_tensor(spec.dtype, spec.shape, bytes);
  };
  write_safetensors_shards(folder_, specs, source, 10);
  EXPECT_EQ(file_names(),
            (std::vector<std::string>{"model-00001-of-00003.safetensors",
                                      "model-00002-of-00003.safetensors",
                                      "model-00003-of-00003.safetensors",
                                      "model.safetensors.index.json"}));
  const Json index = read_json_file(folder_ / "model.safetensors.index.json");
  EXPECT_EQ(index["metadata"]["total_size"], 41);
  EXPECT_EQ(index["weight_map"]["b"], "model-00001-of-00003.safetensors");
  EXPECT_EQ(index["weight_map"]["c"], "model-00002-of-00003.safetensors");
  const SafetensorsSet set(folder_);
  EXPECT_EQ(set.names().size(), 5u);
  EXPECT_EQ(set.tensor("e").bytes[3], std::byte{'e'});
}

TEST_F(SafetensorsWriter, OneFileUpToTheSize) {
  const std::vector<TensorSpec> specs = {{"a", DType::kU8, {5}}, {"b", DType::kU8, {5}}};
  const auto source = [](const TensorSpec& spec) {
    return make_tensor(spec.dtype, spec.shape, std::vector<char>(5));
  };
  write_safetensors_shards(folder_, specs, source, 10);
  EXPECT_EQ(file_names(), std::vector<std::string>{"model.safetensors"});
}

}  // namespace
}  // namespace ssa
