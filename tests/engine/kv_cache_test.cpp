#include "engine/kv_cache.h"

#include <gtest/gtest.h>

#include "support/compare.h"
#include "support/expect_error.h"

namespace ssa {
namespace {

ModelConfig config() {
  ModelConfig config;
  config.n_layers = 2;
  config.n_kv_heads = 3;
  config.head_dim = 4;
  return config;
}

KvCache cache_of(int64_t capacity) {
  return {config(), torch::kFloat32, torch::kCPU, capacity};
}

Tensor random_tokens(int64_t n) {
  return torch::randn({n, 3, 4});
}

class KvCacheCapacity : public ::testing::TestWithParam<int64_t> {};

TEST_P(KvCacheCapacity, HoldsWhatWasAppendedHoweverOftenItGrows) {
  torch::manual_seed(1);
  KvCache cache = cache_of(GetParam());
  Tensor k = torch::empty({0, 3, 4}), v = torch::empty({0, 3, 4});
  for (const int64_t n : {1, 1, 5, 1, 62, 1, 0, 7}) {
    const Tensor more_k = random_tokens(n), more_v = random_tokens(n);
    cache.append(1, more_k, more_v);
    k = torch::cat({k, more_k});
    v = torch::cat({v, more_v});
    ASSERT_TRUE(torch::equal(cache.keys(1), k.transpose(0, 1)));
    ASSERT_TRUE(torch::equal(cache.values(1), v.transpose(0, 1)));
  }
  EXPECT_EQ(cache.length(1), 78);
  EXPECT_EQ(cache.length(0), 0);
  EXPECT_EQ(cache.keys(0).sizes(), at::IntArrayRef({3, 0, 4}));
}

INSTANTIATE_TEST_SUITE_P(, KvCacheCapacity, ::testing::Values(0, 1, 3, 77, 78, 100));

TEST(KvCache, DoesNotMoveWithinItsCapacity) {
  KvCache cache = cache_of(8);
  cache.append(0, random_tokens(1), random_tokens(1));
  const void* before = cache.keys(0).const_data_ptr();
  cache.append(0, random_tokens(7), random_tokens(7));
  EXPECT_EQ(cache.keys(0).const_data_ptr(), before);
  cache.append(0, random_tokens(1), random_tokens(1));
  EXPECT_NE(cache.keys(0).const_data_ptr(), before);
}

TEST(KvCache, TruncateForgetsTheEndInEveryLayer) {
  KvCache cache = cache_of(4);
  const Tensor first = random_tokens(6), other = random_tokens(3);
  cache.append(0, first, first);
  cache.append(1, other, other);
  cache.truncate(4);
  EXPECT_EQ(cache.length(0), 4);
  EXPECT_EQ(cache.length(1), 3);  // shorter already
  const Tensor again = random_tokens(2);
  cache.append(0, again, again);
  const Tensor expected = torch::cat({first.narrow(0, 0, 4), again}).transpose(0, 1);
  EXPECT_TRUE(torch::equal(cache.keys(0), expected));
  EXPECT_TRUE(torch::equal(cache.values(0), expected));
  cache.truncate(0);
  EXPECT_EQ(cache.length(0), 0);
}

TEST(KvCache, KeepsItsOwnTypeAndCopies) {
  KvCache cache(config(), torch::kBFloat16, torch::kCPU, 2);
  Tensor k = random_tokens(2).to(torch::kBFloat16);
  const Tensor expected = k.clone();
  cache.append(0, k, k);
  k.zero_();
  EXPECT_EQ(cache.keys(0).scalar_type(), torch::kBFloat16);
  EXPECT_TRUE(torch::equal(cache.values(0), expected.transpose(0, 1)));
}

TEST(KvCache, GrowsInAndOutsideOfInferenceMode) {
  KvCache cache = cache_of(1);
  {
    const torch::InferenceMode inference;
    cache.append(0, random_tokens(1), random_tokens(1));
  }
  cache.append(0, random_tokens(3), random_tokens(3));
  EXPECT_EQ(cache.length(0), 4);
}

TEST(KvCache, BytesAreCountedAndChecked) {
  EXPECT_EQ(KvCache::bytes(config(), torch::kFloat32, 10), 2U * 4 * 2 * 3 * 4 * 10);
  EXPECT_EQ(KvCache::bytes(config(), torch::kBFloat16, 10), 2U * 2 * 2 * 3 * 4 * 10);
  expect_error([] { KvCache::bytes(config(), torch::kFloat64, int64_t{1} << 60); },
               "key/value cache");
}

}  // namespace
}  // namespace ssa
