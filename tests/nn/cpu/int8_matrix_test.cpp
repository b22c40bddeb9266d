#include "nn/cpu/int8_matrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "nn/cpu/numbers.h"

namespace ssa::cpu {
namespace {

struct Size {
  int64_t n_rows, n_columns;
};
constexpr Size kSizes[] = {{1, 32}, {15, 64}, {16, 32}, {17, 576}, {40, 50}, {33, 1}, {64, 1536}};

/// A matrix in strips, and the same weights plain.
class Matrix {
 public:
  /// `scale_bits` gives each block's f16 scale, in bits.
  template <class ScaleBits>
  Matrix(std::mt19937& random, Size size, const ScaleBits& scale_bits) {
    view.n_rows = size.n_rows;
    view.n_columns = size.n_columns;
    const int64_t n_blocks = view.n_blocks();
    std::vector<std::byte> rows;
    std::uniform_int_distribution<int> byte(-128, 127);
    for (int64_t i = 0; i < size.n_rows * n_blocks; ++i) {
      const uint16_t half = scale_bits(random);
      const auto scale_at = rows.size();
      rows.resize(scale_at + sizeof half);
      std::memcpy(&rows[scale_at], &half, sizeof half);
      scales.push_back(std::ldexp(1.0 + (half & 0x3FF) / 1024.0, (half >> 10) - 15));
      for (int64_t j = 0; j < kBlockWeights; ++j) {
        const bool filling = i % n_blocks * kBlockWeights + j >= size.n_columns;
        bytes.push_back(filling ? 0 : byte(random));
        rows.push_back(static_cast<std::byte>(bytes.back()));
      }
    }
    memory_.resize(static_cast<size_t>(view.n_strips() * view.strip_bytes()) + 64);
    auto* strips = memory_.data() + (64 - reinterpret_cast<uintptr_t>(memory_.data()) % 64);
    for (int64_t s = 0; s < view.n_strips(); ++s) {
      pack_strip(rows.data() + s * kStripRows * n_blocks * kBlockBytes,
                 std::min(kStripRows, size.n_rows - s * kStripRows),
                 n_blocks,
                 strips + s * view.strip_bytes());
    }
    view.strips = strips;
  }

  /// Scale number `block` of a row times its byte number `column`.
  double weight(int64_t row, int64_t column) const {
    const int64_t i = row * view.n_blocks() * kBlockWeights + column;
    return scales[static_cast<size_t>(i / kBlockWeights)] * bytes[static_cast<size_t>(i)];
  }

  Int8MatrixView view;
  std::vector<int> bytes;
  std::vector<double> scales;

 private:
  std::vector<std::byte> memory_;
};

uint16_t any_scale(std::mt19937& random) {
  return static_cast<uint16_t>(random() % 0x400 + 0x1C00);
}  // near 2^-8
uint16_t scale_one(std::mt19937&) {
  return 0x3C00;
}

/// Quantised tokens with their memory.
struct Tokens {
  Tokens(int64_t n_tokens, int64_t n_blocks)
      : bytes(static_cast<size_t>(n_tokens * n_blocks * kBlockWeights)),
        scales(static_cast<size_t>(n_tokens * n_blocks)),
        offsets(scales.size()) {}
  Int8Tokens view() { return {bytes.data(), scales.data(), offsets.data()}; }

  std::vector<int8_t> bytes;
  std::vector<float> scales;
  std::vector<int32_t> offsets;
};

template <class T>
class Int8KernelsTest : public ::testing::Test {
 protected:
  template <class Test>
  void on_every_instruction_set(const Test& test) {
    for (const InstructionSet set : available_instruction_sets()) {
      SCOPED_TRACE(instruction_set_name(set));
      test(int8_kernels<T>(set));
    }
  }
  std::mt19937 random_{7};
};
using NumberTypes = ::testing::Types<float, BF16>;
TYPED_TEST_SUITE(Int8KernelsTest, NumberTypes);

TYPED_TEST(Int8KernelsTest, UnpackedRowsAreScaleTimesByte) {
  for (const Size size : kSizes) {
    const Matrix matrix(this->random_, size, any_scale);
    this->on_every_instruction_set([&](const Int8Kernels<TypeParam>& kernels) {
      for (const int64_t begin : {int64_t{0}, size.n_rows / 2, size.n_rows - 1}) {
        const int64_t n = (size.n_rows - begin) * size.n_columns;
        std::vector<TypeParam> rows(static_cast<size_t>(n) + 1, from_float<TypeParam>(42));
        kernels.unpack(matrix.view, begin, size.n_rows, rows.data());
        for (int64_t i = 0; i < n; ++i) {
          const double expected = matrix.weight(begin + i / size.n_columns, i % size.n_columns);
          ASSERT_NEAR(to_float(rows[static_cast<size_t>(i)]),
                      expected,
                      kRounding<TypeParam> * std::fabs(expected))
              << i;
        }
        ASSERT_EQ(to_float(rows.back()), 42) << "written behind the rows";
      }
    });
  }
}

TYPED_TEST(Int8KernelsTest, TokensAreRoundedToTheNearestByte) {
  for (const Size size : kSizes) {
    constexpr int64_t kTokens = 3;
    const std::vector<TypeParam> x =
        random_numbers<TypeParam>(this->random_, kTokens * size.n_columns, 5);
    const int64_t n_blocks = (size.n_columns + kBlockWeights - 1) / kBlockWeights;
    this->on_every_instruction_set([&](const Int8Kernels<TypeParam>& kernels) {
      Tokens tokens(kTokens, n_blocks);
      kernels.quantize(x.data(), kTokens, size.n_columns, tokens.view());
      for (int64_t i = 0; i < kTokens * n_blocks; ++i) {
        const float scale = tokens.scales[static_cast<size_t>(i)];
        int sum = 0, largest = 0;
        for (int64_t j = 0; j < kBlockWeights; ++j) {
          const int64_t token = i / n_blocks, column = i % n_blocks * kBlockWeights + j;
          const int byte = tokens.bytes[static_cast<size_t>(i * kBlockWeights + j)];
          const bool filling = column >= size.n_columns;
          const float value =
              filling ? 0 : to_float(x[static_cast<size_t>(token * size.n_columns + column)]);
          ASSERT_LE(std::fabs(value - scale * static_cast<float>(byte)), scale * 0.50001F);
          sum += byte;
          largest = std::max(largest, std::abs(byte));
        }
        ASSERT_EQ(largest, 127);
        ASSERT_EQ(tokens.offsets[static_cast<size_t>(i)], -128 * sum);
      }
    });
  }
}

TYPED_TEST(Int8KernelsTest, ProductsAreThoseOfDoublePrecision) {
  for (const Size size : kSizes) {
    const Matrix matrix(this->random_, size, any_scale);
    const std::vector<TypeParam> bias = random_numbers<TypeParam>(this->random_, size.n_rows);
    const std::vector<TypeParam> x =
        random_numbers<TypeParam>(this->random_, kMaxTokens * size.n_columns);
    this->on_every_instruction_set([&](const Int8Kernels<TypeParam>& kernels) {
      Tokens tokens(kMaxTokens, matrix.view.n_blocks());
      kernels.quantize(x.data(), kMaxTokens, size.n_columns, tokens.view());
      std::vector<TypeParam> out(static_cast<size_t>(kMaxTokens * size.n_rows));
      kernels.multiply(matrix.view,
                       tokens.view(),
                       kMaxTokens,
                       0,
                       matrix.view.n_strips(),
                       bias.data(),
                       out.data(),
                       size.n_rows);
      for (int64_t i = 0; i < kMaxTokens * size.n_rows; ++i) {
        const int64_t token = i / size.n_rows, row = i % size.n_rows,
                      stride = matrix.view.n_blocks() * kBlockWeights;
        double expected = to_float(bias[static_cast<size_t>(row)]), magnitude = std::fabs(expected);
        for (int64_t c = 0; c < size.n_columns; ++c) {
          const auto at = static_cast<size_t>(token * stride + c);
          const double term =
              matrix.weight(row, c) * tokens.bytes[at] * tokens.scales[at / kBlockWeights];
          expected += term;
          magnitude += std::fabs(term);
        }
        const double roundings =
            4 * 0x1p-24 * magnitude + kRounding<TypeParam> * std::fabs(expected);
        ASSERT_NEAR(to_float(out[static_cast<size_t>(i)]), expected, roundings)
            << "token " << token << ", row " << row;
      }
    });
  }
}

/// With scales of 1 sums are whole numbers below 2^24, and every instruction set gives exactly
/// those: also at the ends of a byte's range, where 16-bit sums of pairs are closest to overflow.
TEST(Int8Kernels, WholeNumbersAreExactForAnyNumberOfTokens) {
  std::mt19937 random(11);
  constexpr Size kSize = {35, 96};
  Matrix matrix(random, kSize, scale_one);
  const int64_t n_blocks = matrix.view.n_blocks(), stride = n_blocks * kBlockWeights,
                out_stride = 40;
  for (const InstructionSet set : available_instruction_sets()) {
    for (int64_t n_tokens = 1; n_tokens <= kMaxTokens; ++n_tokens) {
      SCOPED_TRACE(instruction_set_name(set) + std::string(", tokens: ") +
                   std::to_string(n_tokens));
      Tokens tokens(n_tokens, n_blocks);
      for (size_t i = 0; i < tokens.bytes.size(); ++i) {
        tokens.bytes[i] = static_cast<int8_t>(random() % 2 == 0 ? 127 : -127);
        tokens.scales[i / kBlockWeights] = 1;
        tokens.offsets[i / kBlockWeights] -= 128 * tokens.bytes[i];
      }
      std::vector<float> out(static_cast<size_t>(n_tokens * out_stride), 42);
      int8_kernels<float>(set).multiply(
          matrix.view, tokens.view(), n_tokens, 1, 3, nullptr, out.data(), out_stride);
      for (int64_t i = 0; i < n_tokens * out_stride; ++i) {
        const int64_t token = i / out_stride, row = i % out_stride;
        const bool asked_for = row >= kStripRows && row < kSize.n_rows;
        int expected = asked_for ? 0 : 42;
        for (int64_t c = 0; asked_for && c < kSize.n_columns; ++c) {
          expected += matrix.bytes[static_cast<size_t>(row * stride + c)] *
                      tokens.bytes[static_cast<size_t>(token * stride + c)];
        }
        ASSERT_EQ(out[static_cast<size_t>(i)], static_cast<float>(expected))
            << "token " << token << ", row " << row;
      }
    }
  }
}

TEST(Int8Kernels, LargestMagnitudesDoNotOverflow) {
  for (const int8_t sign : {int8_t{1}, int8_t{-1}}) {
    std::vector<std::byte> row(kBlockBytes, std::byte{0x80});  // -128
    const uint16_t one = 0x3C00;
    std::memcpy(row.data(), &one, sizeof one);
    alignas(64) std::byte strip[kStripRows * kBlockBytes + 32];
    pack_strip(row.data(), 1, 1, strip);
    Tokens tokens(1, 1);
    std::fill(tokens.bytes.begin(), tokens.bytes.end(), static_cast<int8_t>(127 * sign));
    tokens.scales[0] = 1;
    tokens.offsets[0] = -128 * 32 * 127 * sign;
    for (const InstructionSet set : available_instruction_sets()) {
      float out = 0;
      int8_kernels<float>(set).multiply({strip, 1, 32}, tokens.view(), 1, 0, 1, nullptr, &out, 1);
      EXPECT_EQ(out, -128.0F * 127 * 32 * sign) << instruction_set_name(set);
    }
  }
}

TEST(Int8Kernels, WhatIsNotFiniteStaysSo) {
  std::mt19937 random(3);
  const Matrix matrix(random, {16, 64}, any_scale);
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> x(64, 1);
    x[40] = bad;
    for (const InstructionSet set : available_instruction_sets()) {
      Tokens tokens(1, 2);
      float out[16];
      int8_kernels<float>(set).quantize(x.data(), 1, 64, tokens.view());
      int8_kernels<float>(set).multiply(matrix.view, tokens.view(), 1, 0, 1, nullptr, out, 16);
      for (const float value : out) {
        EXPECT_FALSE(std::isfinite(value)) << instruction_set_name(set);
      }
    }
  }
}

TEST(Int8Kernels, TinyNumbersCountAsNothing) {
  for (const InstructionSet set : available_instruction_sets()) {
    const std::vector<float> x = {1e-38F, -1e-31F, 1e-45F, 0};
    Tokens tokens(1, 1);
    int8_kernels<float>(set).quantize(x.data(), 1, 4, tokens.view());
    EXPECT_EQ(tokens.scales[0], 0) << instruction_set_name(set);
    EXPECT_EQ(tokens.offsets[0], 0) << instruction_set_name(set);
  }
}

}  // namespace
}  // namespace ssa::cpu
