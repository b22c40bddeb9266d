#include "attention/cpu/bank_attend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "support/stored_keys.h"

namespace ssa::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

/// A random bank, as stored (with nothing behind its last value) and as it reads back.
struct Bank {
  Bank(KvType type_of_all, int64_t dims, int64_t n_gists)
      : type(type_of_all),
        head_dim(dims),
        n(n_gists),
        tiles((n_gists + kTileKeys - 1) / kTileKeys * tile_bytes(type, dims)),
        stored_values(n_gists * vector_bytes(type, dims)),
        keys(n_gists * dims),
        values(n_gists * dims) {
    const std::vector<float> exact_keys = random_numbers(n * dims, 1),
                             exact_values = random_numbers(n * dims, 2);
    std::vector<std::byte> vector(vector_bytes(type, dims));
    for (int64_t i = 0; i < n; ++i) {
      store_vector(type, &exact_keys[i * dims], dims, vector.data());
      store_in_tile(
          type, vector.data(), dims, i % kTileKeys, &tiles[i / kTileKeys * tile_bytes(type, dims)]);
      load_vector(type, vector.data(), dims, &keys[i * dims]);
      store_vector(
          type, &exact_values[i * dims], dims, &stored_values[i * vector_bytes(type, dims)]);
      load_vector(type, &stored_values[i * vector_bytes(type, dims)], dims, &values[i * dims]);
    }
  }

  BankView view() const { return {tiles.data(), stored_values.data(), n}; }

  KvType type;
  int64_t head_dim, n;
  std::vector<std::byte> tiles, stored_values;
  std::vector<float> keys, values;
};

/// A softmax state that owns its numbers.
struct State {
  State(int64_t n_rows, int64_t head_dim)
      : largest(n_rows, -kInf), sum(n_rows, 0.0F), out(n_rows * head_dim, 0.0F) {}
  SoftmaxState view() { return {largest.data(), sum.data(), out.data()}; }
  std::vector<float> largest, sum, out;
};

void attend(InstructionSet set,
            const Bank& bank,
            const std::vector<float>& q,
            const std::vector<int64_t>& visible,
            State& state) {
  const HeadShape shape = {bank.type, bank.head_dim, 0};
  bank_attend_kernels(set).attend(shape,
                                  q.data(),
                                  static_cast<int64_t>(visible.size()),
                                  1 / std::sqrt(static_cast<float>(bank.head_dim)),
                                  bank.view(),
                                  visible.data(),
                                  state.view());
}

/// One row in double: the largest score in base 2, and the output.
struct Exact {
  Exact(const Bank& bank, const float* q, int64_t visible) : out(bank.head_dim, 0.0) {
    std::vector<double> scores(visible, 0.0);
    for (int64_t key = 0; key < visible; ++key) {
      for (int64_t i = 0; i < bank.head_dim; ++i) {
        scores[key] += double{q[i]} * bank.keys[key * bank.head_dim + i];
      }
      scores[key] *= std::log2(std::exp(1.0)) / std::sqrt(static_cast<double>(bank.head_dim));
      largest = std::max(largest, scores[key]);
    }
    double sum = 0;
    for (int64_t key = 0; key < visible; ++key) {
      const double weight = std::exp2(scores[key] - largest);
      sum += weight;
      for (int64_t i = 0; i < bank.head_dim; ++i) {
        out[i] += weight * bank.values[key * bank.head_dim + i];
      }
    }
    for (double& value : out) {
      value /= visible > 0 ? sum : 1;
    }
  }

  double largest = -kInf;
  std::vector<double> out;
};

void expect_exact(const Bank& bank,
                  const std::vector<float>& q,
                  const std::vector<int64_t>& visible,
                  const State& state) {
  const double tolerance =
      bank.type == KvType::kF32 ? 1e-5 : 0.02;  // bf16: q, weights and int8 values are rounded
  const int64_t dim = bank.head_dim;
  for (size_t row = 0; row < visible.size(); ++row) {
    const Exact exact(bank, &q[row * dim], visible[row]);
    if (visible[row] == 0) {
      ASSERT_EQ(state.largest[row], -kInf);
      ASSERT_EQ(state.sum[row], 0);
    } else {
      ASSERT_NEAR(state.largest[row], exact.largest, 2 * tolerance) << "row " << row;
    }
    for (int64_t i = 0; i < dim; ++i) {
      const float out =
          visible[row] == 0 ? state.out[row * dim + i] : state.out[row * dim + i] / state.sum[row];
      ASSERT_NEAR(out, exact.out[i], tolerance) << "row " << row << " dim " << i << " of " << dim;
    }
  }
}

class BankAttend : public ::testing::TestWithParam<std::tuple<InstructionSet, KvType>> {
 protected:
  InstructionSet set = std::get<0>(GetParam());
  KvType type = std::get<1>(GetParam());
};

TEST_P(BankAttend, IsSoftmaxAttention) {
  for (const int64_t head_dim : kHeadDims) {
    const Bank bank(type, head_dim, 75);
    for (const int64_t n_rows : {1, 3, 7, 8, 16, 40}) {
      const std::vector<float> q = random_numbers(n_rows * head_dim, 3);
      std::vector<int64_t> visible(n_rows);
      for (int64_t row = 0; row < n_rows; ++row) {
        visible[row] = bank.n - row * 37 % (bank.n + 1);
      }
      State state(n_rows, head_dim);
      attend(set, bank, q, visible, state);
      expect_exact(bank, q, visible, state);
    }
  }
}

TEST_P(BankAttend, OfManyRowsUnderACausalMask) {
  constexpr int64_t kHeadDim = 64, kRows = 250;
  const Bank bank(type, kHeadDim, 200);
  const std::vector<float> q = random_numbers(kRows * kHeadDim, 4);
  std::vector<int64_t> visible(kRows);
  for (int64_t row = 0; row < kRows; ++row) {
    visible[row] = std::min(row, bank.n);
  }
  State state(kRows, kHeadDim);
  attend(set, bank, q, visible, state);
  expect_exact(bank, q, visible, state);
}

TEST_P(BankAttend, TakesInWhatTheStateHolds) {
  constexpr int64_t kHeadDim = 40, kRows = 9;
  const Bank bank(type, kHeadDim, 100);
  std::vector<float> q = random_numbers(kRows * kHeadDim, 5);
  State state(kRows, kHeadDim);
  attend(set, bank, q, std::vector<int64_t>(kRows, 64), state);
  // The rest of the bank, as a bank of its own.
  const int64_t skipped_tiles = 4 * tile_bytes(type, kHeadDim),
                skipped_values = 64 * vector_bytes(type, kHeadDim);
  const BankView rest = {&bank.tiles[skipped_tiles], &bank.stored_values[skipped_values], 36};
  const std::vector<int64_t> visible(kRows, 36);
  bank_attend_kernels(set).attend({type, kHeadDim, 0},
                                  q.data(),
                                  kRows,
                                  1 / std::sqrt(static_cast<float>(kHeadDim)),
                                  rest,
                                  visible.data(),
                                  state.view());
  expect_exact(bank, q, std::vector<int64_t>(kRows, 100), state);
}

TEST_P(BankAttend, OfNothing) {
  const Bank bank(type, 32, 0);
  State state(5, 32);
  attend(set, bank, random_numbers(5 * 32, 6), std::vector<int64_t>(5, 0), state);
  expect_exact(bank, random_numbers(5 * 32, 6), std::vector<int64_t>(5, 0), state);
  State none(0, 32);
  attend(set, bank, {}, {}, none);
}

TEST_P(BankAttend, OfScoresThatAreFarApart) {
  constexpr int64_t kHeadDim = 32;
  const Bank bank(type, kHeadDim, 130);
  std::vector<float> q = random_numbers(3 * kHeadDim, 7);
  for (float& value : q) {
    value = std::ldexp(std::round(value * 8), 10);  // whole thousands: exact in bf16
  }
  State state(3, kHeadDim);
  attend(set, bank, q, {130, 67, 16}, state);
  for (int64_t row = 0; row < 3; ++row) {
    EXPECT_GE(state.sum[row], 1);
    EXPECT_LT(state.sum[row], 1.5);  // one key outweighs all others
    for (int64_t i = 0; i < kHeadDim; ++i) {
      ASSERT_TRUE(std::isfinite(state.out[row * kHeadDim + i]));
    }
  }
}

std::string name(const ::testing::TestParamInfo<BankAttend::ParamType>& test) {
  return std::string(instruction_set_name(std::get<0>(test.param))) + "_" +
         kv_type_name(std::get<1>(test.param));
}

INSTANTIATE_TEST_SUITE_P(All,
                         BankAttend,
                         ::testing::Combine(::testing::ValuesIn(available_instruction_sets()),
                                            ::testing::ValuesIn(kTypes)),
                         name);

}  // namespace
}  // namespace ssa::cpu
