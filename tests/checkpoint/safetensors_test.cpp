#include "checkpoint/safetensors.h"

#include "hf_fixtures.h"

namespace ssa {
namespace {

namespace fs = std::filesystem;

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    text += "0123456789abcdef"[std::to_integer<int>(byte) >> 4];
    text += "0123456789abcdef"[std::to_integer<int>(byte) & 15];
  }
  return text;
}

/// A file of that header, padded to a multiple of `align` bytes, and data.
std::string file_of(std::string header, const std::string& data, size_t align = 8) {
  header.append((align - header.size() % align) % align, ' ');
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors_header(std::as_bytes(std::span(file)), "x.safetensors");
}

TEST(Safetensors, ReadsEveryTypeTheOfficialLibraryWrites) {
  const SafetensorsFile file(golden("safetensors/every_type.safetensors"));
  const Json expected = read_json_file(golden("safetensors/every_type.json"));
  EXPECT_EQ(file.header().tensors.size(), 13u);
  EXPECT_EQ(Json(file.header().metadata),
            Json(expected["metadata"].get<std::map<std::string, std::string>>()));
  for (const auto& item : expected["tensors"].items()) {
    const HostTensor tensor = file.tensor(item.key());
    EXPECT_EQ(dtype_name(tensor.dtype), item.value()["dtype"].get<std::string>()) << item.key();
    EXPECT_EQ(Json(tensor.shape), item.value()["shape"]) << item.key();
    EXPECT_EQ(hex(tensor.bytes), item.value()["bytes"].get<std::string>()) << item.key();
  }
  expect_error([&] { file.tensor("nothing"); }, {"every_type.safetensors", "nothing"});
}

struct Lie {
  const char* name;
  const char* header;
  const char* data;
  std::vector<std::string> message;
};

const Lie kLies[] = {
    {"BeyondTheEnd",
     R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
     "1234",
     {"\"a\"", "[0, 8)", "4 bytes"}},
    {"HoleBetween",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
     "123",
     {"\"b\"", "hole", "begin at 1"}},
    {"HoleAtStart",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
     "12",
     {"\"a\"", "hole", "begin at 0"}},
    {"Overlap",
     R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
     "123",
     {"\"b\"", "overlaps", "begin at 2"}},
    {"SameBytesTwice",
     R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
     "12",
     {"overlaps"}},
    {"EmptyTensorInside",
     R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})",
     "12",
     {"\"b\""}},
    {"Backward",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})",
     "1",
     {"\"a\"", "[1, 0)", "backward"}},
    {"TooFewBytes",
     R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})",
     "1234",
     {"\"a\"", "need 8", "hold 4"}},
    {"TooManyBytes",
     R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,4]}})",
     "1234",
     {"need 2", "hold 4"}},
    {"SizesOverflow",
     R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})",
     "",
     {"\"a\"", "overflows"}},
    {"BytesOverflow",
     R"({"a":{"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0]}})",
     "",
     {"\"a\"", "overflows"}},
    {"SizeBeyondInt64",
     R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,0]}})",
     "",
     {"\"a\"", "shape", "too large"}},
    {"OffsetsAtTheLimit",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615]}})",
     "1",
     {"hole"}},
    {"NegativeSize",
     R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})",
     "1",
     {"\"a\"", "shape", "negative"}},
    {"FractionalSize",
     R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})",
     "1",
     {"shape", "fraction"}},
    {"TextAsSize",
     R"({"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}})",
     "1",
     {"shape", "whole number"}},
    {"NestedShape",
     R"({"a":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})",
     "1",
     {"shape", "list"}},
    {"ShapeIsNumber",
     R"({"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})",
     "1",
     {"shape", "expected a list"}},
    {"OneOffset",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})",
     "1",
     {"data_offsets", "found 1"}},
    {"ThreeOffsets",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}})",
     "1",
     {"data_offsets", "more"}},
    {"UnknownType",
     R"({"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})",
     "1",
     {"\"a\"", "F8_E4M3", "BF16"}},
    {"TypeIsNumber",
     R"({"a":{"dtype":4,"shape":[1],"data_offsets":[0,1]}})",
     "1",
     {"dtype", "expected a string"}},
    {"NoType", R"({"a":{"shape":[1],"data_offsets":[0,1]}})", "1", {"\"a\"", "dtype is missing"}},
    {"NoShape", R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", "1", {"\"a\"", "shape is missing"}},
    {"NoOffsets", R"({"a":{"dtype":"U8","shape":[1]}})", "1", {"\"a\"", "data_offsets is missing"}},
    {"TypeTwice",
     R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
     "1",
     {"dtype", "twice"}},
    {"NameTwice",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
     "1",
     {"\"a\"", "twice"}},
    {"TensorIsNumber", R"({"a":1})", "", {"\"a\"", "expected an object"}},
    {"TensorIsNull", R"({"a":null})", "", {"\"a\"", "expected an object"}},
    {"TensorIsList", R"({"a":[]})", "", {"\"a\"", "expected an object"}},
    {"MetadataIsList", R"({"__metadata__":[]})", "", {"__metadata__", "expected an object"}},
    {"MetadataOfNumbers",
     R"({"__metadata__":{"k":1}})",
     "",
     {"__metadata__", "\"k\"", "expected a string"}},
    {"MetadataTwice", R"({"__metadata__":{},"__metadata__":{}})", "", {"__metadata__", "twice"}},
    {"List", "[]", "", {"not a JSON object"}},
    {"Nothing", "", "", {"not a JSON object"}},
    {"Torn", R"({"a":{"dtype":"U8")", "", {"broken JSON"}},
    {"TwoDocuments", "{}{}", "", {"broken JSON"}},
    {"BrokenUtf8", "{\"a\xff\":{}}", "", {"broken JSON"}},
    {"ByteOrderMark", "\xef\xbb\xbf{}", "", {"not a JSON object"}},
    {"LineBreakInName", "{\"a\\nb\":1}", "", {"a\\nb"}},
};

class Lies : public ::testing::TestWithParam<Lie> {};
INSTANTIATE_TEST_SUITE_P(Headers, Lies, ::testing::ValuesIn(kLies), [](const auto& i) {
  return std::string(i.param.name);
});

TEST_P(Lies, IsRefusedWithTheReason) {
  std::vector<std::string> parts = GetParam().message;
  parts.insert(parts.begin(), "x.safetensors: ");
  expect_error([] { parse(file_of(GetParam().header, GetParam().data)); }, parts);
}

TEST(SafetensorsHeader, FileTooShortForItsHeader) {
  expect_error([] { parse("1234567"); }, {"7 bytes"});
  expect_error([] { parse(std::string("\x20\0\0\0\0\0\0\0{}", 10)); }, {"32 bytes", "only 2"});
  expect_error([] { parse(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)); }, {"100000000"});
  expect_error([] { parse(std::string("\x03\0\0\0\0\0\0\0{}\0", 11)); }, {"zero byte"});
}

TEST(SafetensorsHeader, AcceptsWhatTheOfficialLibraryAccepts) {
  const std::string one = R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]})";
  EXPECT_EQ(parse(file_of("{}", "")).tensors.size(), 0u);
  EXPECT_EQ(parse(file_of("  {" + one + "}", "1234")).tensors.size(), 1u);
  EXPECT_EQ(parse(file_of("{\"__metadata__\":null," + one + "}", "1234")).tensors.size(), 1u);
  EXPECT_EQ(parse(file_of("{\"__metadata__\":{\"k\":\"v\"}," + one + "}", "1234")).metadata.at("k"),
            "v");
  const char* unknown_field =
      R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4],"more":[{"shape":null},1.5]}})";
  EXPECT_EQ(parse(file_of(unknown_field, "1234")).tensors.size(), 1u);
  const std::string empty = R"("e":{"dtype":"F32","shape":[3,0],"data_offsets":[4,4]})";
  EXPECT_EQ(parse(file_of("{" + empty + "," + one + "}", "1234")).tensors.size(), 2u);
}

TEST(SafetensorsHeader, AcceptsTrailingBytes) {
  const char* header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  EXPECT_EQ(parse(file_of(header, "1234 and more")).data_size, 4u);
}

using SafetensorsFolder = FolderTest;

TEST_F(SafetensorsFolder, MisalignedTensorsArriveAligned) {
  const char* header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
                           "b":{"dtype":"F64","shape":[1],"data_offsets":[1,9]}})";
  write_file(folder_ / "x.safetensors", file_of(header, "0abcdefgh", 1));
  const HostTensor tensor = SafetensorsFile(folder_ / "x.safetensors").tensor("b");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.bytes.data()) % 8, 0u);
  EXPECT_EQ(0, std::memcmp(tensor.bytes.data(), "abcdefgh", 8));
}

TEST_F(SafetensorsFolder, TensorsOutliveTheFileObject) {
  write_safetensors(folder_ / "x.safetensors",
                    {{"a", make_tensor<float>(DType::kF32, {2}, {1.5F, 2.5F})}});
  const HostTensor tensor = SafetensorsFile(folder_ / "x.safetensors").tensor("a");
  fs::remove(folder_ / "x.safetensors");
  float second = 0;
  std::memcpy(&second, tensor.bytes.data() + 4, sizeof second);
  EXPECT_EQ(second, 2.5F);
}

TEST_F(SafetensorsFolder, IndexNamesTheShards) {
  write_safetensors(folder_ / "one.safetensors",
                    {{"a", make_tensor<float>(DType::kF32, {1}, {1})}});
  write_safetensors(folder_ / "two.safetensors",
                    {{"b", make_tensor<float>(DType::kF32, {2}, {2, 3})}});
  const auto write_index = [&](const std::string& map) {
    write_file(folder_ / "model.safetensors.index.json", "{\"weight_map\":" + map + "}");
  };
  write_index(R"({"b": "two.safetensors", "a": "one.safetensors"})");
  const SafetensorsSet set(folder_);
  EXPECT_EQ(set.names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(set.tensor_bytes(), 12u);
  EXPECT_EQ(set.entry("b").shape, std::vector<int64_t>{2});
  expect_error([&] { set.tensor("c"); }, {"c"});

  const std::vector<std::pair<std::string, std::vector<std::string>>> kBad = {
      {R"({"a": "two.safetensors"})", {"\"a\"", "two.safetensors"}},
      {R"({"a": "three.safetensors"})", {"three.safetensors"}},
      {R"({"a": "../one.safetensors"})", {"../one.safetensors"}},
      {R"({"a": ".."})", {"\"..\""}},
      {R"({"a": 3})", {"\"a\"", "3"}},
      {R"(["a"])", {"weight_map"}}};
  for (const auto& [map, message] : kBad) {
    write_index(map);
    expect_error([&] { SafetensorsSet{folder_}; }, message);
  }
}

}  // namespace
}  // namespace ssa
