#include "nn/cpu/row_kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "nn/cpu/numbers.h"

namespace ssa::cpu {
namespace {

constexpr int64_t kSizes[] = {1, 7, 16, 31, 64, 576, 1537};

template <class T>
class RowKernelsTest : public ::testing::Test {
 protected:
  /// Calls test(kernels, n) on every instruction set for every size.
  template <class Test>
  void everywhere(const Test& test) {
    for (const InstructionSet set : available_instruction_sets()) {
      for (const int64_t n : kSizes) {
        SCOPED_TRACE(instruction_set_name(set) + std::string(", n: ") + std::to_string(n));
        test(row_kernels<T>(set), n);
      }
    }
  }
  std::vector<T> random(int64_t n, float deviation = 1) {
    return random_numbers<T>(random_, n, deviation);
  }

  /// Within a few roundings of float and the one to T; nothing written behind the end.
  template <class Formula>
  static void expect_near(const std::vector<T>& out, int64_t n, const Formula& formula) {
    for (int64_t i = 0; i < n; ++i) {
      const double expected = formula(static_cast<size_t>(i));
      ASSERT_NEAR(to_float(out[static_cast<size_t>(i)]),
                  expected,
                  (8 * 0x1p-24 + kRounding<T>)*std::fabs(expected) + 1e-37)
          << i;
    }
    ASSERT_EQ(to_float(out.back()), 42);
  }
  static std::vector<T> output(int64_t n) {
    return std::vector<T>(static_cast<size_t>(n) + 1, from_float<T>(42));
  }

 private:
  std::mt19937 random_{5};
};
using NumberTypes = ::testing::Types<float, BF16>;
TYPED_TEST_SUITE(RowKernelsTest, NumberTypes);

TYPED_TEST(RowKernelsTest, RmsNorm) {
  this->everywhere([&](const RowKernels<TypeParam>& kernels, int64_t n) {
    const auto x = this->random(n, 3), weight = this->random(n);
    auto out = this->output(n);
    kernels.rms_norm(x.data(), weight.data(), 1e-3F, n, out.data());
    double squares = 0;
    for (const TypeParam value : x) {
      squares += std::pow(to_float(value), 2);
    }
    const double rms = std::sqrt(squares / static_cast<double>(n) + 1e-3F);
    this->expect_near(out, n, [&](size_t i) { return to_float(x[i]) / rms * to_float(weight[i]); });
  });
}

TYPED_TEST(RowKernelsTest, SiluTimes) {
  for (const float deviation : {1.0F, 10.0F, 100.0F}) {
    this->everywhere([&](const RowKernels<TypeParam>& kernels, int64_t n) {
      const auto gate = this->random(n, deviation), up = this->random(n);
      auto out = this->output(n);
      kernels.silu_times(gate.data(), up.data(), n, out.data());
      for (int64_t i = 0; i < n;
           ++i) {  // beyond 87 the exponential stays as it is, and the result is nearly 0
        const double x = to_float(gate[static_cast<size_t>(i)]);
        const double expected = x / (1 + std::exp(-x)) * to_float(up[static_cast<size_t>(i)]);
        ASSERT_NEAR(to_float(out[static_cast<size_t>(i)]),
                    expected,
                    (8 * 0x1p-24 + kRounding<TypeParam>)*std::fabs(expected) + 1e-34)
            << x;
      }
      ASSERT_EQ(to_float(out.back()), 42);
    });
  }
}

TYPED_TEST(RowKernelsTest, Add) {
  this->everywhere([&](const RowKernels<TypeParam>& kernels, int64_t n) {
    const auto a = this->random(n), b = this->random(n);
    auto out = this->output(n);
    kernels.add(a.data(), b.data(), n, out.data());
    this->expect_near(out, n, [&](size_t i) { return to_float(a[i]) + to_float(b[i]); });
  });
}

TYPED_TEST(RowKernelsTest, Rotate) {
  this->everywhere([&](const RowKernels<TypeParam>& kernels, int64_t half) {
    constexpr size_t kHeads = 3;
    const auto size = static_cast<size_t>(2 * half);
    const auto x = this->random(3 * 2 * half), cos = this->random(2 * half),
               sin = this->random(2 * half);
    auto out = this->output(3 * 2 * half);
    kernels.rotate(x.data(), cos.data(), sin.data(), kHeads, 2 * half, out.data());
    for (size_t i = 0; i < kHeads * size; ++i) {
      const size_t at = i % size;
      const bool first = at < size / 2;
      const double turned = first ? -to_float(x[i + size / 2]) : to_float(x[i - size / 2]);
      const double a = double{to_float(x[i])} * to_float(cos[at]), b = turned * to_float(sin[at]);
      ASSERT_NEAR(
          to_float(out[i]),
          a + b,
          2 * 0x1p-24 * (std::fabs(a) + std::fabs(b)) + kRounding<TypeParam> * std::fabs(a + b))
          << i;
    }
    ASSERT_EQ(to_float(out.back()), 42);
  });
}

TYPED_TEST(RowKernelsTest, NaNStaysNaN) {
  this->everywhere([&](const RowKernels<TypeParam>& kernels, int64_t n) {
    auto x = this->random(n);
    const auto other = this->random(n);
    const auto last = static_cast<size_t>(n) - 1;
    x[last] = from_float<TypeParam>(std::numeric_limits<float>::quiet_NaN());
    auto out = this->output(n);
    kernels.silu_times(x.data(), other.data(), n, out.data());
    EXPECT_TRUE(std::isnan(to_float(out[last])));
    kernels.add(x.data(), other.data(), n, out.data());
    EXPECT_TRUE(std::isnan(to_float(out[last])));
    kernels.rms_norm(x.data(), other.data(), 1e-6F, n, out.data());
    EXPECT_TRUE(std::isnan(to_float(out[0])));
  });
}

}  // namespace
}  // namespace ssa::cpu
