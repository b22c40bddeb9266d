#include "selection/cpu/score.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "support/stored_keys.h"

namespace ssa::cpu {
namespace {

constexpr int64_t kRowCounts[] = {1, 3, 7, 8, 16, 40, 64};
constexpr int64_t kKeyCounts[] = {1, 4, 16, 17, 100};

/// Random keys as vectors, as tiles, and as they read back.
struct Keys {
  Keys(KvType type_of_all, int64_t dims, int64_t n_keys)
      : type(type_of_all),
        head_dim(dims),
        n(n_keys),
        vectors(n_keys * vector_bytes(type_of_all, dims)),
        tiles((n_keys + kTileKeys - 1) / kTileKeys * tile_bytes(type_of_all, dims)),
        numbers(n_keys * dims) {
    const std::vector<float> exact = random_numbers(n * head_dim, 1);
    for (int64_t key = 0; key < n; ++key) {
      store_vector(type, &exact[key * head_dim], head_dim, vector(key));
      load_vector(type, vector(key), head_dim, &numbers[key * head_dim]);
      store_in_tile(type,
                    vector(key),
                    head_dim,
                    key % kTileKeys,
                    &tiles[key / kTileKeys * tile_bytes(type, head_dim)]);
    }
  }

  std::byte* vector(int64_t key) { return &vectors[key * vector_bytes(type, head_dim)]; }

  KvType type;
  int64_t head_dim, n;
  std::vector<std::byte> vectors, tiles;
  std::vector<float> numbers;
};

std::vector<float> score_tiles(
    InstructionSet set, const Keys& keys, const float* q, int64_t n_rows, int64_t stride) {
  std::vector<float> scores(n_rows * stride, NAN);
  score_kernels(set).score_tiles(
      keys.type, keys.head_dim, q, n_rows, keys.tiles.data(), keys.n, scores.data(), stride);
  return scores;
}

std::vector<float> score_vectors(
    InstructionSet set, const Keys& keys, const float* q, int64_t n_rows, int64_t stride) {
  std::vector<float> scores(n_rows * stride, NAN);
  score_kernels(set).score_vectors(keys.type,
                                   keys.head_dim,
                                   q,
                                   n_rows,
                                   keys.vectors.data(),
                                   vector_bytes(keys.type, keys.head_dim),
                                   keys.n,
                                   scores.data(),
                                   stride);
  return scores;
}

/// Fails unless scores are q . k up to what rounding q to bf16 and summing in float32 can do.
void expect_dots(const Keys& keys,
                 const std::vector<float>& q,
                 const std::vector<float>& scores,
                 int64_t stride) {
  for (int64_t row = 0; row < static_cast<int64_t>(q.size()) / keys.head_dim; ++row) {
    for (int64_t key = 0; key < keys.n; ++key) {
      double dot = 0, squares = 0;
      for (int64_t i = 0; i < keys.head_dim; ++i) {
        const double product =
            double{q[row * keys.head_dim + i]} * keys.numbers[key * keys.head_dim + i];
        dot += product;
        squares += product * product;
      }
      const double rounding =
          keys.type == KvType::kF32 ? 0x1p-19 : 0x1p-8;  // a bf16 is off by at most 2^-9
      ASSERT_NEAR(scores[row * stride + key], dot, rounding * std::sqrt(squares) * 2 + 1e-6)
          << "row " << row << " key " << key << " head_dim " << keys.head_dim;
    }
  }
}

class Score : public ::testing::TestWithParam<std::tuple<InstructionSet, KvType>> {
 protected:
  InstructionSet set = std::get<0>(GetParam());
  KvType type = std::get<1>(GetParam());
};

TEST_P(Score, IsTheDotProduct) {
  for (const int64_t head_dim : kHeadDims) {
    const Keys keys(type, head_dim, 37);
    for (const int64_t n_rows : kRowCounts) {
      const std::vector<float> q = random_numbers(n_rows * head_dim, 2);
      expect_dots(keys, q, score_tiles(set, keys, q.data(), n_rows, 48), 48);
      expect_dots(keys, q, score_vectors(set, keys, q.data(), n_rows, 37), 37);
    }
  }
}

TEST_P(Score, DependsOnNothingButItsQueryAndKey) {
  for (const int64_t head_dim : {40, 128}) {
    const Keys all(type, head_dim, 100);
    const std::vector<float> q = random_numbers(40 * head_dim, 3);
    const std::vector<float> tiles = score_tiles(set, all, q.data(), 40, 112);
    const std::vector<float> vectors = score_vectors(set, all, q.data(), 40, 112);
    for (const int64_t n_rows : kRowCounts) {
      for (const int64_t n_keys : kKeyCounts) {
        const Keys some(type, head_dim, n_keys);
        const int64_t first = n_rows < 40 ? 40 - n_rows : 0, n = 40 - first;
        const float* rows = &q[first * head_dim];
        const std::vector<float> some_tiles = score_tiles(set, some, rows, n, 112);
        const std::vector<float> some_vectors = score_vectors(set, some, rows, n, 112);
        for (int64_t i = 0; i < n * n_keys; ++i) {
          const int64_t row = i / n_keys, key = i % n_keys;
          ASSERT_EQ(some_tiles[row * 112 + key], tiles[(first + row) * 112 + key]);
          ASSERT_EQ(some_vectors[row * 112 + key], vectors[(first + row) * 112 + key]);
        }
      }
    }
  }
}

TEST_P(Score, WritesNoFurtherThanTheLastTile) {
  const Keys keys(type, 64, 21);
  const std::vector<float> q = random_numbers(3 * 64, 4);
  const std::vector<float> tiles = score_tiles(set, keys, q.data(), 3, 40);
  const std::vector<float> vectors = score_vectors(set, keys, q.data(), 3, 40);
  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t key = 0; key < 40; ++key) {
      ASSERT_EQ(std::isnan(tiles[row * 40 + key]), key >= 32) << key;
      ASSERT_EQ(std::isnan(vectors[row * 40 + key]), key >= 21) << key;
    }
  }
  EXPECT_TRUE(score_tiles(set, Keys(type, 64, 0), q.data(), 0, 40).empty());
}

TEST_P(Score, OfTinyAndNoNumbers) {
  const Keys keys(type, 32, 5);
  std::vector<float> q(3 * 32, 0.0F);
  q[32] = 1e-38F;
  q[64] = NAN;
  for (const auto& scores :
       {score_tiles(set, keys, q.data(), 3, 16), score_vectors(set, keys, q.data(), 3, 16)}) {
    for (int64_t key = 0; key < 5; ++key) {
      EXPECT_EQ(scores[key], 0);
      EXPECT_NEAR(scores[16 + key], 0, 1e-36);
      EXPECT_TRUE(std::isnan(scores[32 + key]));
    }
  }
}

std::string name(const ::testing::TestParamInfo<Score::ParamType>& info) {
  return std::string(instruction_set_name(std::get<0>(info.param))) + "_" +
         kv_type_name(std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(All,
                         Score,
                         ::testing::Combine(::testing::ValuesIn(available_instruction_sets()),
                                            ::testing::ValuesIn(kTypes)),
                         name);

}  // namespace
}  // namespace ssa::cpu
