#include "checkpoint/gguf_quants.h"

#include <cmath>
#include <limits>

#include "checkpoint/gguf_file.h"
#include "hf_fixtures.h"

namespace ssa {
namespace {

std::vector<float> read_floats(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), bytes.size());
  return floats;
}

TEST(GgufQuants, BlocksUnpackBitForBitAsInTheGgufPackage) {
  const GgufFile file(golden("gguf/blocks.gguf"));
  const std::vector<float> expected = read_floats(golden("gguf/blocks.f32"));
  size_t begin = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.name.starts_with("quantise")) continue;
    ASSERT_EQ(tensor.name, gguf_type_name(tensor.type));
    std::vector<float> found(512);
    dequantize(tensor.type, tensor.bytes, found);
    ASSERT_LE(begin + found.size(), expected.size());
    EXPECT_EQ(std::memcmp(found.data(), &expected[begin], found.size() * sizeof(float)), 0)
        << tensor.name;
    begin += found.size();
  }
  EXPECT_EQ(begin, expected.size());
  EXPECT_EQ(begin, 13u * 512);
}

TEST(GgufQuants, F64IsRoundedToFloat) {
  const double numbers[] = {0.1, -1e300};
  float found[2];
  dequantize(GgufType::kF64, std::as_bytes(std::span(numbers)).first(8), std::span(found).first(1));
  EXPECT_EQ(found[0], 0.1F);
}

TEST(GgufQuants, Q8PacksBitForBitAsInTheGgufPackage) {
  const GgufFile file(golden("gguf/blocks.gguf"));
  const GgufTensor& input = *file.find_tensor("quantise.input");
  const GgufTensor& expected = *file.find_tensor("quantise.expected");
  std::vector<float> weights(input.bytes.size() / sizeof(float));
  std::memcpy(weights.data(), input.bytes.data(), input.bytes.size());
  std::vector<std::byte> packed(expected.bytes.size());
  ASSERT_TRUE(quantize_q8_0(weights, packed));
  for (size_t block = 0; block < weights.size() / 32; ++block) {
    EXPECT_TRUE(
        std::equal(&packed[block * 34], &packed[block * 34] + 34, &expected.bytes[block * 34]))
        << block;
  }
}

TEST(GgufQuants, UnpackedBlocksOfQ8PackToTheSameBytes) {
  std::vector<float> weights(64);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i)) * 3.0F;
  std::vector<std::byte> packed(68), again(68);
  ASSERT_TRUE(quantize_q8_0(weights, packed));
  dequantize(GgufType::kQ8_0, packed, weights);
  ASSERT_TRUE(quantize_q8_0(weights, again));
  EXPECT_EQ(packed, again);
}

TEST(GgufQuants, Q8RefusesWhatItCannotHold) {
  std::vector<std::byte> packed(34);
  for (const float bad : {std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN(),
                          1e30F}) {
    std::vector<float> weights(32, 1.0F);
    weights[17] = bad;
    EXPECT_FALSE(quantize_q8_0(weights, packed)) << bad;
  }
}

TEST(GgufTypes, NamesAndSizes) {
  EXPECT_EQ(gguf_type_name(GgufType::kQ4_K), "Q4_K");
  EXPECT_EQ(gguf_type_name(16), "IQ2_XXS");
  EXPECT_EQ(gguf_type_name(1000), "type 1000");
  EXPECT_EQ(find_gguf_type(1000), std::nullopt);
  EXPECT_EQ(find_gguf_type(20), std::nullopt);
  EXPECT_EQ(find_gguf_type(14), GgufType::kQ6_K);
  EXPECT_EQ(gguf_block_size(GgufType::kQ6_K), 256u);
  EXPECT_EQ(gguf_block_bytes(GgufType::kQ6_K), 210u);
  EXPECT_EQ(plain_dtype(GgufType::kBF16), DType::kBF16);
  EXPECT_EQ(plain_dtype(GgufType::kQ8_0), std::nullopt);
}

}  // namespace
}  // namespace ssa
