#include "checkpoint/gguf_file.h"

#include <cmath>

#include "gguf_fixtures.h"
#include "hf_fixtures.h"

namespace ssa {
namespace {

constexpr uint32_t kF32 = 0;

TEST(GgufFile, ReadsEveryValueTypeThatTheGgufPackageWrites) {
  const GgufFile file(golden("gguf/values.gguf"));
  EXPECT_EQ(file.integer("u8"), 200);
  EXPECT_EQ(file.integer("i8"), -100);
  EXPECT_EQ(file.integer("u16"), 60000);
  EXPECT_EQ(file.integer("i16"), -30000);
  EXPECT_EQ(file.integer("u32"), 4000000000);
  EXPECT_EQ(file.integer("i32"), -2000000000);
  EXPECT_EQ(file.integer("u64"), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(file.integer("i64"), -(int64_t{1} << 62));
  EXPECT_EQ(file.number("f32"), 1e-5);  // not 9.99999974e-06
  EXPECT_EQ(file.number("f64"), 0.1);
  EXPECT_EQ(file.number("u8"), 200.0);
  EXPECT_EQ(file.boolean("bool"), true);
  EXPECT_EQ(file.string("string"), "naïve\n");
  EXPECT_EQ(file.strings("strings"), (std::vector<std::string_view>{"a", "", "ü"}));
  EXPECT_EQ(file.integers("integers"), (std::vector<int64_t>{3, -1, 2}));
  ASSERT_NE(file.find("nested"), nullptr);
  EXPECT_EQ(file.find("nested")->element_type, GgufValueType::kArray);
  EXPECT_EQ(file.find("nested")->size, 3u);
  EXPECT_EQ(file.integer("last"), 7);  // what follows the nested arrays is read right
  EXPECT_EQ(file.integer("nothing"), std::nullopt);
}

TEST(GgufFile, WrongTypeNamesTheKey) {
  const GgufFile file(golden("gguf/values.gguf"));
  expect_error([&] { file.integer("string"); }, {"values.gguf", "'string'", "integer"});
  expect_error([&] { file.integer("huge"); }, {"'huge'", "2^63"});
  expect_error([&] { file.number("bool"); }, {"'bool'", "number"});
  expect_error([&] { file.boolean("u8"); }, {"'u8'", "boolean"});
  expect_error([&] { file.string("strings"); }, {"'strings'", "a string"});
  expect_error([&] { file.strings("integers"); }, {"'integers'", "strings"});
  expect_error([&] { file.integers("nested"); }, {"'nested'", "integers"});
  expect_error([&] { file.required_integer("nothing"); }, {"values.gguf", "'nothing'", "missing"});
}

TEST(GgufFile, TensorsHaveRowsFirst) {
  const std::string bytes =
      GgufBytes().header(2, 0).tensor("a", {3, 2}, kF32, 0).tensor("b", {4}, 1, 32).data(40);
  const GgufFile file = parse_gguf(bytes);
  ASSERT_EQ(file.tensors().size(), 2u);
  const GgufTensor* a = file.find_tensor("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(a->bytes.size(), 24u);
  EXPECT_EQ(file.find_tensor("b")->type, GgufType::kF16);
  EXPECT_EQ(file.find_tensor("b")->bytes.data() - a->bytes.data(), 32);
  EXPECT_EQ(file.find_tensor("c"), nullptr);
}

TEST(GgufFile, AlignmentOfTheFile) {
  const auto with_alignment = [](uint32_t alignment) {
    std::string bytes = GgufBytes()
                            .header(1, 1)
                            .string("general.alignment")
                            .u32(4)
                            .u32(alignment)
                            .tensor("a", {1}, kF32, 64);
    bytes.append((64 - bytes.size() % 64) % 64 + 64, '\0');
    return bytes + "1234";
  };
  EXPECT_EQ(parse_gguf(with_alignment(64)).find_tensor("a")->bytes[0], std::byte{'1'});
  expect_error([&] { parse_gguf(with_alignment(128)); }, {"'a'", "64", "128"});
  expect_error([&] { parse_gguf(with_alignment(0)); }, {"alignment", "0", "power of two"});
  expect_error([&] { parse_gguf(with_alignment(48)); }, {"alignment", "48"});
}

struct Lie {
  const char* name;
  std::string bytes;
  std::vector<std::string> message;
};

const std::vector<Lie>& lies() {
  const auto start = [](uint64_t n_tensors, uint64_t n_keys) {
    return GgufBytes().header(n_tensors, n_keys);
  };
  const auto nested = [&](int depth) {
    GgufBytes bytes = start(0, 1).string("deep").u32(9);
    for (int i = 0; i < depth; ++i) bytes.u32(9).u64(1);
    return bytes.u32(0).u64(1).text("x");
  };
  static const std::vector<Lie> all = {
      {"Empty", "", {"GGUF"}},
      {"Magic", GgufBytes().text("GGUX").u32(3).u64(0).u64(0), {"not a GGUF file"}},
      {"Version1", GgufBytes().header(0, 0, 1), {"version 1", "2 and 3"}},
      {"Version4", GgufBytes().header(0, 0, 4), {"version 4"}},
      {"BigEndian", GgufBytes().header(0, 0, 0x03000000), {"big-endian"}},
      {"KeyCount", start(0, uint64_t{1} << 60).data(64), {"1152921504606846976 keys"}},
      {"TensorCount", start(uint64_t{1} << 60, 0).data(64), {"1152921504606846976 tensors"}},
      {"KeyLength", start(0, 1).u64(~uint64_t{0}).data(64), {"key", "18446744073709551615 bytes"}},
      {"StringLength",
       start(0, 1).string("k").u32(8).u64(uint64_t{1} << 40).data(9),
       {"'k'", "1099511627776"}},
      {"ArraySize",
       start(0, 1).string("k").u32(9).u32(4).u64(uint64_t{1} << 62).data(9),
       {"overflows"}},
      {"ArrayEnd", start(0, 1).string("k").u32(9).u32(10).u64(1000).data(9), {"'k'", "8000 bytes"}},
      {"StringArraySize",
       start(0, 1).string("k").u32(9).u32(8).u64(uint64_t{1} << 62).data(80),
       {"'k'"}},
      {"ValueType", start(0, 1).string("k").u32(13).u64(0), {"'k'", "value type 13"}},
      {"ElementType", start(0, 1).string("k").u32(9).u32(99).u64(0), {"'k'", "value type 99"}},
      {"Nesting", nested(20), {"'deep'", "deeper than 8"}},
      {"KeyTwice",
       start(0, 2).string("k").u32(7).text("1").string("k").u32(7).text("1"),
       {"'k'", "twice"}},
      {"Unprintable", start(0, 1).string("\n\x01\xff").u32(13).u64(0), {"'??\xEF\xBF\xBD'"}},
      {"NoDimension", start(1, 0).tensor("t", {}, kF32, 0).data(32), {"'t'", "0 dimensions"}},
      {"FiveDimensions",
       start(1, 0).tensor("t", {1, 1, 1, 1, 1}, kF32, 0).data(32),
       {"'t'", "5 dimensions"}},
      {"ZeroSize", start(1, 0).tensor("t", {4, 0}, kF32, 0).data(32), {"'t'", "size 0"}},
      {"NegativeSize",
       start(1, 0).tensor("t", {~uint64_t{0}}, kF32, 0).data(32),
       {"'t'", "size -1"}},
      {"SizesOverflow",
       start(1, 0).tensor("t", {uint64_t{1} << 40, uint64_t{1} << 40}, kF32, 0).data(32),
       {"'t'", "overflows"}},
      {"BytesOverflow",
       start(1, 0).tensor("t", {uint64_t{1} << 62}, kF32, 0).data(32),
       {"'t'", "overflows"}},
      {"UnreadableType", start(1, 0).tensor("t", {32}, 20, 0).data(32), {"'t'", "IQ4_NL", "Q4_K"}},
      {"UnknownType", start(1, 0).tensor("t", {32}, 77, 0).data(32), {"'t'", "type 77", "Q4_K"}},
      {"PartialBlock", start(1, 0).tensor("t", {48}, 8, 0).data(64), {"'t'", "48", "Q8_0", "32"}},
      {"Misaligned", start(1, 0).tensor("t", {1}, kF32, 4).data(32), {"'t'", "offset 4", "32"}},
      {"BeyondTheEnd", start(1, 0).tensor("t", {9}, kF32, 0).data(32), {"'t'", "36", "32"}},
      {"OffsetOverflows",
       start(1, 0).tensor("t", {9}, kF32, ~uint64_t{31}).data(32),
       {"'t'", "overflows"}},
      {"Overlap",
       start(2, 0).tensor("a", {9}, kF32, 0).tensor("b", {1}, kF32, 32).data(64),
       {"'a'", "'b'", "overlap"}},
      {"SameOffset",
       start(2, 0).tensor("a", {1}, kF32, 0).tensor("b", {1}, kF32, 0).data(64),
       {"overlap"}},
      {"TensorTwice",
       start(2, 0).tensor("a", {1}, kF32, 0).tensor("a", {1}, kF32, 32).data(64),
       {"'a'", "twice"}},
  };
  return all;
}

class GgufLies : public ::testing::TestWithParam<Lie> {};

TEST_P(GgufLies, AreRefused) {
  std::vector<std::string> message = GetParam().message;
  message.push_back("x.gguf: ");
  expect_error([] { parse_gguf(GetParam().bytes); }, message);
}

INSTANTIATE_TEST_SUITE_P(GgufFile, GgufLies, ::testing::ValuesIn(lies()), [](const auto& lie) {
  return lie.param.name;
});

/// A file of every region: keys, an array, two tensors, and data up to the last byte.
std::string whole_file() {
  GgufHeader header;
  header.add_string("general.architecture", "llama");
  header.add_strings("strings", std::vector<std::string>{"one", "two"});
  header.add_int32s("integers", std::vector<int32_t>{1, 2, 3});
  header.add_tensor("a", GgufType::kQ8_0, std::vector<int64_t>{2, 32}, 68);
  header.add_tensor("b", GgufType::kF32, std::vector<int64_t>{3}, 12);
  return header.bytes() + std::string(68 + gguf_padding(68) + 12, 'x');
}

TEST(GgufFile, EveryTruncationIsRefused) {
  const std::string whole = whole_file();
  EXPECT_EQ(parse_gguf(whole).tensors().size(), 2u);
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_NE(error_of([&] { parse_gguf(whole.substr(0, n)); }), "") << n << " bytes";
  }
}

TEST(GgufFile, NoWrongByteIsWorseThanAnError) {
  const std::string whole = whole_file();
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const char flip : {'\x01', '\x10', '\x7F', '\xFF'}) {
      std::string broken = whole;
      broken[i] = static_cast<char>(broken[i] ^ flip);
      const std::string message = error_of([&] {
        const GgufFile file = parse_gguf(broken);
        for (const GgufTensor& tensor : file.tensors()) {
          ASSERT_GE(tensor.bytes.data(), std::as_bytes(std::span(broken)).data());
          ASSERT_LE(tensor.bytes.data() + tensor.bytes.size(),
                    std::as_bytes(std::span(broken)).data() + broken.size());
        }
      });
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
  }
}

TEST(GgufHeader, IsReadBack) {
  GgufHeader header;
  header.add_uint32("u", 4294967295);
  header.add_float32("f", 0.25);
  header.add_float64("d", 0.1);
  header.add_bool("yes", true);
  header.add_bool("no", false);
  header.add_string("s", "text");
  header.add_strings("ss", std::vector<std::string>{"", "x"});
  header.add_int32s("is", std::vector<int32_t>{-1, 5});
  const std::string bytes = header.bytes();
  const GgufFile file = parse_gguf(bytes);
  EXPECT_EQ(file.integer("u"), 4294967295);
  EXPECT_EQ(file.number("f"), 0.25);
  EXPECT_EQ(file.number("d"), 0.1);
  EXPECT_EQ(file.boolean("yes"), true);
  EXPECT_EQ(file.boolean("no"), false);
  EXPECT_EQ(file.string("s"), "text");
  EXPECT_EQ(file.strings("ss"), (std::vector<std::string_view>{"", "x"}));
  EXPECT_EQ(file.integers("is"), (std::vector<int64_t>{-1, 5}));
  expect_error([&] { header.add_uint32("big", int64_t{1} << 32); }, {"'big'", "4294967296"});
  expect_error([&] { header.add_uint32("small", -1); }, {"'small'", "-1"});
}

}  // namespace
}  // namespace ssa
