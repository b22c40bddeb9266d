#include "checkpoint/float_convert.h"

#include <bit>
#include <cmath>
#include <limits>

#include "hf_fixtures.h"

namespace ssa {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// One of the two 16-bit formats, with the definition of a value spelled out in doubles.
struct Format {
  const char* name;
  DType dtype;
  int fraction_bits, bias;
  float (*widen)(uint16_t);
  uint16_t (*narrow)(float);

  uint16_t infinity() const {
    return static_cast<uint16_t>(0x7FFF >> fraction_bits << fraction_bits);
  }
  double value(uint16_t bits) const {
    const int fraction = bits & ((1 << fraction_bits) - 1);
    const int exponent = (bits & 0x7FFF) >> fraction_bits;
    const double magnitude = exponent == 0 ? std::ldexp(fraction, 1 - bias - fraction_bits)
                                           : std::ldexp(fraction + (1 << fraction_bits),
                                                        exponent - bias - fraction_bits);
    return bits & 0x8000 ? -magnitude : magnitude;
  }
};

const Format kFormats[] = {{"F16", DType::kF16, 10, 15, f16_to_f32, f32_to_f16},
                           {"BF16", DType::kBF16, 7, 127, bf16_to_f32, f32_to_bf16}};

class SixteenBits : public ::testing::TestWithParam<Format> {};
INSTANTIATE_TEST_SUITE_P(Formats, SixteenBits, ::testing::ValuesIn(kFormats), [](const auto& i) {
  return std::string(i.param.name);
});

TEST_P(SixteenBits, EveryValueWidensExactlyAndComesBack) {
  const Format& format = GetParam();
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const uint16_t magnitude = half & 0x7FFF;
    const float wide = format.widen(half);
    if (magnitude > format.infinity()) {
      EXPECT_TRUE(std::isnan(wide));
      EXPECT_TRUE(std::isnan(format.widen(format.narrow(wide))));
    } else if (magnitude == format.infinity()) {
      EXPECT_TRUE(std::isinf(wide));
      EXPECT_EQ(format.narrow(wide), half);
    } else {
      ASSERT_EQ(static_cast<double>(wide), format.value(half)) << bits;
      ASSERT_EQ(format.narrow(wide), half) << bits;
    }
  }
}

TEST_P(SixteenBits, MidpointsGoToEvenAndTheirNeighboursToTheNearer) {
  const Format& format = GetParam();
  for (uint16_t low = 0; low < format.infinity(); ++low) {
    // Above the largest value the next one would be the power of two that stands for infinity.
    const double high = format.value(static_cast<uint16_t>(low + 1));
    const auto middle = static_cast<float>((format.value(low) + high) / 2);
    ASSERT_EQ(static_cast<double>(middle) * 2, format.value(low) + high) << "a float holds it";
    const auto even = static_cast<uint16_t>(low + (low & 1));
    ASSERT_EQ(format.narrow(middle), even) << low;
    ASSERT_EQ(format.narrow(-middle), even | 0x8000) << low;
    ASSERT_EQ(format.narrow(std::nextafter(middle, 0.0F)), low) << low;
    ASSERT_EQ(format.narrow(std::nextafter(middle, kInfinity)), low + 1) << low;
  }
}

HostTensor convert_one(double value, DType dtype) {
  return convert_floats(make_tensor<double>(DType::kF64, {1}, {value}), dtype, "x");
}

uint16_t bits16(const HostTensor& tensor) {
  uint16_t bits = 0;
  std::memcpy(&bits, tensor.bytes.data(), sizeof bits);
  return bits;
}

TEST_P(SixteenBits, DoublesAreRoundedOnce) {
  const Format& format = GetParam();
  for (uint16_t low = 0; low + 1 < format.infinity(); ++low) {
    const double middle = (format.value(low) + format.value(static_cast<uint16_t>(low + 1))) / 2;
    const auto even = static_cast<uint16_t>(low + (low & 1));
    // One step of a double beside the tie: by way of float it would become the tie.
    ASSERT_EQ(bits16(convert_one(middle, format.dtype)), even) << low;
    ASSERT_EQ(bits16(convert_one(std::nextafter(middle, 0.0), format.dtype)), low) << low;
    ASSERT_EQ(bits16(convert_one(-std::nextafter(middle, 1e300), format.dtype)), (low + 1) | 0x8000)
        << low;
  }
}

TEST(ConvertFloats, AllPairsKeepValuesThatBothHold) {
  const std::vector<double> values = {0.0, -0.0, 1.0, -2.5, 0.15625, 384.0, 0x1p-14};
  const DType kTypes[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16};
  const HostTensor start = make_tensor(DType::kF64, {7}, values);
  for (const DType from : kTypes) {
    for (const DType to : kTypes) {
      const HostTensor stored = convert_floats(start, from, "x");
      const HostTensor back = convert_floats(convert_floats(stored, to, "x"), DType::kF64, "x");
      EXPECT_EQ(0, std::memcmp(back.bytes.data(), values.data(), back.bytes.size()))
          << dtype_name(from) << " " << dtype_name(to);
    }
  }
}

TEST(ConvertFloats, SameTypeSharesTheBytes) {
  const HostTensor tensor = make_tensor<float>(DType::kF32, {2}, {1, 2});
  EXPECT_EQ(convert_floats(tensor, DType::kF32, "x").bytes.data(), tensor.bytes.data());
}

TEST(ConvertFloats, OverflowNamesTheTensor) {
  const HostTensor tensor = make_tensor<float>(DType::kF32, {4}, {1, 65520, -1e9F, kInfinity});
  expect_error([&] { convert_floats(tensor, DType::kF16, "big.weight"); },
               {"big.weight", "2 of 4", "F16"});
  EXPECT_NO_THROW(convert_floats(tensor, DType::kBF16, "x"));
  expect_error([] { convert_one(1e39, DType::kF32); }, {"1 of 1", "F32"});
}

TEST(ConvertFloats, IntegersAreRefused) {
  const HostTensor tensor = make_tensor<int8_t>(DType::kI8, {1}, {1});
  expect_error([&] { convert_floats(tensor, DType::kF32, "x"); }, {"I8"});
}

}  // namespace
}  // namespace ssa
