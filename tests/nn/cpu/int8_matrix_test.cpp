#include "nn/cpu/int8_matrix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

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
    memory_.resize(static_cast<size_t>(view.n_strips() * view.strip_bytes()));
    for (int64_t s = 0; s < view.n_strips(); ++s) {
      pack_strip(rows.data() + s * kStripRows * n_blocks * kBlockBytes,
                 std::min(kStripRows, size.n_rows - s * kStripRows),
                 n_blocks,
                 memory_.data() + s * view.strip_bytes());
    }
    view.strips = memory_.data();
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

/// Rows of strips [begin, end) times x [n_tokens, n_columns]: [n_tokens, out_stride], 42 where
/// nothing is written.
template <class T>
std::vector<T> product(const Int8Kernels<T>& kernels,
                       const Int8MatrixView& weights,
                       const std::vector<T>& x,
                       const T* bias,
                       int64_t begin,
                       int64_t end,
                       int64_t out_stride) {
  const int64_t n_tokens = static_cast<int64_t>(x.size()) / weights.n_columns;
  const auto n_blocks = static_cast<size_t>(n_tokens * weights.n_blocks());
  std::vector<int16_t> numbers(n_blocks * kBlockWeights);
  std::vector<float> scales(n_blocks);
  std::vector<int32_t> offsets(n_blocks);
  const QuantizedTokens tokens = {numbers.data(), scales.data(), offsets.data()};
  kernels.quantize(x.data(), n_tokens, weights.n_columns, tokens);
  std::vector<T> out(static_cast<size_t>(n_tokens * out_stride), from_float<T>(42));
  kernels.multiply(weights, tokens, n_tokens, begin, end, bias, out.data(), out_stride);
  return out;
}

/// Half a step of the block that column lies in.
template <class T>
double rounding_of(const std::vector<T>& x, int64_t token, int64_t column, int64_t n_columns) {
  double largest = 0;
  const int64_t begin = column / kBlockWeights * kBlockWeights;
  for (int64_t c = begin; c < std::min(begin + kBlockWeights, n_columns); ++c) {
    largest = std::max(largest,
                       std::fabs(double{to_float(x[static_cast<size_t>(token * n_columns + c)])}));
  }
  return largest / (128 * 127) * 0.501;
}

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

TYPED_TEST(Int8KernelsTest, ProductsAreThoseOfDoublePrecision) {
  for (const Size size : kSizes) {
    const Matrix matrix(this->random_, size, any_scale);
    const auto bias = random_numbers<TypeParam>(this->random_, size.n_rows);
    const auto x = random_numbers<TypeParam>(this->random_, kMaxTokens * size.n_columns);
    this->on_every_instruction_set([&](const Int8Kernels<TypeParam>& kernels) {
      const auto out =
          product(kernels, matrix.view, x, bias.data(), 0, matrix.view.n_strips(), size.n_rows);
      for (int64_t i = 0; i < kMaxTokens * size.n_rows; ++i) {
        const int64_t token = i / size.n_rows, row = i % size.n_rows;
        double expected = to_float(bias[static_cast<size_t>(row)]),
               allowed = 4 * 0x1p-24 * std::fabs(expected);
        for (int64_t c = 0; c < size.n_columns; ++c) {
          const double weight = matrix.weight(row, c);
          const double term = weight * to_float(x[static_cast<size_t>(token * size.n_columns + c)]);
          expected += term;
          allowed += 4 * 0x1p-24 * std::fabs(term) +
                     std::fabs(weight) * rounding_of(x, token, c, size.n_columns);
        }
        ASSERT_NEAR(to_float(out[static_cast<size_t>(i)]),
                    expected,
                    allowed + kRounding<TypeParam> * std::fabs(expected))
            << "token " << token << ", row " << row;
      }
    });
  }
}

/// With 16,256 as a block's largest number and weights' scales of 1, nothing is rounded: sums are
/// whole numbers below 2^24, and every instruction set gives exactly those, for any number of
/// tokens and part of the strips.
TEST(Int8Kernels, WholeNumbersAreExact) {
  std::mt19937 random(11);
  constexpr Size kSize = {35, 96};
  constexpr int64_t kStride = 40;
  const Matrix matrix(random, kSize, scale_one);
  std::uniform_int_distribution<int> small(-500, 500);
  for (int64_t n_tokens = 1; n_tokens <= kMaxTokens; ++n_tokens) {
    std::vector<float> x(static_cast<size_t>(n_tokens * kSize.n_columns));
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = i % kBlockWeights == i / kBlockWeights ? 16256.0F : static_cast<float>(small(random));
    }
    for (const InstructionSet set : available_instruction_sets()) {
      const auto out =
          product<float>(int8_kernels<float>(set), matrix.view, x, nullptr, 1, 3, kStride);
      for (int64_t i = 0; i < n_tokens * kStride; ++i) {
        const int64_t token = i / kStride, row = i % kStride;
        const bool asked_for = row >= kStripRows && row < kSize.n_rows;
        double expected = asked_for ? 0 : 42;
        for (int64_t c = 0; asked_for && c < kSize.n_columns; ++c) {
          expected += matrix.weight(row, c) * x[static_cast<size_t>(token * kSize.n_columns + c)];
        }
        ASSERT_EQ(out[static_cast<size_t>(i)], expected)
            << instruction_set_name(set) << ", token " << token << " of " << n_tokens << ", row "
            << row;
      }
    }
  }
}

TEST(Int8Kernels, LargestMagnitudesDoNotOverflow) {
  for (const int byte : {-128, 127}) {
    std::vector<std::byte> row(kBlockBytes, static_cast<std::byte>(byte));
    const uint16_t one = 0x3C00;
    std::memcpy(row.data(), &one, sizeof one);
    std::byte strip[kTileBytes];
    pack_strip(row.data(), 1, 1, strip);
    for (const float x : {1.0F, -1.0F}) {
      for (const InstructionSet set : available_instruction_sets()) {
        const auto out = product<float>(
            int8_kernels<float>(set), {strip, 1, 32}, std::vector<float>(32, x), nullptr, 0, 1, 1);
        EXPECT_NEAR(out[0], 32 * x * static_cast<float>(byte), 1e-3) << instruction_set_name(set);
      }
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
      for (const float value :
           product<float>(int8_kernels<float>(set), matrix.view, x, nullptr, 0, 1, 16)) {
        EXPECT_FALSE(std::isfinite(value)) << instruction_set_name(set);
      }
    }
  }
}

TEST(Int8Kernels, TinyNumbersCountAsNothing) {
  std::mt19937 random(3);
  const Matrix matrix(random, {16, 4}, any_scale);
  for (const InstructionSet set : available_instruction_sets()) {
    const std::vector<float> x = {1e-38F, -1e-31F, 1e-45F, 0};
    for (const float value :
         product<float>(int8_kernels<float>(set), matrix.view, x, nullptr, 0, 1, 16)) {
      EXPECT_EQ(value, 0) << instruction_set_name(set);
    }
  }
}

}  // namespace
}  // namespace ssa::cpu
