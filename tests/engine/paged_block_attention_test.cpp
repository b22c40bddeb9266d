// The fast block-sparse attention against the plain one: the same blocks chosen, outputs as near
// the truth as LibTorch's.
#include "engine/paged_block_attention.h"

#include <gtest/gtest.h>
#include <torch/utils.h>

#include <limits>
#include <map>

#include "engine/block_attention.h"
#include "selection/block_selection.h"
#include "support/compare.h"
#include "support/each_instruction_set.h"
#include "support/expect_error.h"

namespace ssa {
namespace {

struct PagedBlockSetting {
  const char* name;
  int64_t n_heads, n_kv_heads, head_dim;
  BlockOptions blocks;
  int64_t n_tokens = 330;
};

void PrintTo(const PagedBlockSetting& setting, std::ostream* out) {
  *out << setting.name;
}

/// Notes what was chosen.
class Blocks : public BlockObserver {
 public:
  struct Choice {
    std::vector<int64_t> blocks;
    int64_t n_attended;
    bool operator==(const Choice&) const = default;
  };
  void on_blocks(int64_t layer,
                 int64_t index,
                 int64_t kv_head,
                 std::span<const int64_t> blocks,
                 int64_t n_attended) override {
    of[{layer, index, kv_head}] = {{blocks.begin(), blocks.end()}, n_attended};
  }
  std::map<std::tuple<int64_t, int64_t, int64_t>, Choice> of;
};

/// One sequence with random projections, keys with a slowly turning part so that blocks differ.
class PagedBlockAttentionTest : public ::testing::TestWithParam<PagedBlockSetting> {
 protected:
  static constexpr int64_t kLayers = 2, kGenerated = 9;

  void SetUp() override {
    torch::manual_seed(11);
    const PagedBlockSetting& setting = GetParam();
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      // Rounded to bfloat16, so that every number type starts from the same values.
      const auto random = [&](int64_t heads) {
        return torch::randn({setting.n_tokens, heads, setting.head_dim}).to(torch::kBFloat16);
      };
      q_.push_back(random(setting.n_heads) * 2);
      k_.push_back(random(setting.n_kv_heads) + (random(setting.n_kv_heads).cumsum(0) * 0.1));
      v_.push_back(random(setting.n_kv_heads));
    }
  }

  ModelConfig config() const {
    ModelConfig config;
    config.n_layers = kLayers;
    config.n_heads = GetParam().n_heads;
    config.n_kv_heads = GetParam().n_kv_heads;
    config.head_dim = GetParam().head_dim;
    return config;
  }
  double scale() const { return 1.0 / std::sqrt(static_cast<double>(GetParam().head_dim)); }
  int64_t n_tokens() const { return GetParam().n_tokens; }

  /// Tokens [first, end) in passes, the last kGenerated of the sequence one by one: [kLayers, n,
  /// n_heads, head_dim] f64.
  template <class Attention>
  Tensor run(Attention& attention,
             torch::ScalarType dtype,
             int64_t piece,
             Blocks& blocks,
             int64_t first = 0) const {
    attention.set_observer(&blocks);
    const int64_t n_prompt = n_tokens() - kGenerated;
    std::vector<Tensor> passes;
    while (first < n_tokens()) {
      const int64_t n = first < n_prompt ? std::min(piece, n_prompt - first) : 1;
      std::vector<Tensor> layers;
      for (size_t layer = 0; layer < kLayers; ++layer) {
        const auto part = [&](const Tensor& all) { return all.narrow(0, first, n).to(dtype); };
        layers.push_back(attention
                             .attend(static_cast<int64_t>(layer),
                                     {.q = part(q_[layer]),
                                      .k = part(k_[layer]),
                                      .v = part(v_[layer]),
                                      .scale = scale()})
                             .to(torch::kFloat64));
      }
      passes.push_back(torch::stack(layers));
      first += n;
    }
    return torch::cat(passes, 1);
  }

  Tensor run_reference(torch::ScalarType dtype, Blocks& blocks) const {
    const auto cache = [&] { return KvCache(config(), dtype, torch::kCPU, n_tokens()); };
    BlockSparseAttention attention(cache(), cache(), GetParam().blocks);
    return run(attention, dtype, 1000, blocks);
  }

  Tensor run_paged(torch::ScalarType dtype, KvType type, int64_t piece, Blocks& blocks) const {
    PagedBlockAttention attention(make_paged_cache(config(), type, 0), GetParam().blocks);
    return run(attention, dtype, piece, blocks);
  }

  /// One layer's choices as the reference has them: [n_tokens, n_kv_heads, n_places].
  Tensor table_of(const Blocks& chosen, int64_t layer) const {
    const int64_t n_places = n_tokens() / GetParam().blocks.block_size + 1;
    Tensor table = torch::full({n_tokens(), GetParam().n_kv_heads, n_places}, -1, torch::kInt64);
    for (const auto& [place, choice] : chosen.of) {
      const auto [of_layer, index, kv_head] = place;
      if (of_layer == layer) {
        std::copy(choice.blocks.begin(),
                  choice.blocks.end(),
                  table.mutable_data_ptr<int64_t>() +
                      (index * GetParam().n_kv_heads + kv_head) * n_places);
      }
    }
    return table;
  }

  /// Attention over chosen blocks in float64.
  Tensor attend_exactly(const Blocks& chosen) const {
    std::vector<Tensor> layers;
    for (size_t layer = 0; layer < kLayers; ++layer) {
      const Tensor table = table_of(chosen, static_cast<int64_t>(layer));
      const auto heads_first = [](const Tensor& x) {
        return x.to(torch::kFloat64).transpose(0, 1);
      };
      const Tensor seen = block_mask(table, 0, n_tokens(), GetParam().blocks.block_size);
      const int64_t group = GetParam().n_heads / GetParam().n_kv_heads;
      const Tensor scores =
          torch::matmul(heads_first(q_[layer]),
                        heads_first(k_[layer]).repeat_interleave(group, 0).transpose(1, 2)) *
          scale();
      const Tensor weights = scores
                                 .masked_fill(seen.repeat_interleave(group, 0).logical_not(),
                                              -std::numeric_limits<double>::infinity())
                                 .softmax(-1);
      layers.push_back(torch::matmul(weights, heads_first(v_[layer]).repeat_interleave(group, 0))
                           .transpose(0, 1));
    }
    return torch::stack(layers);
  }

  std::vector<Tensor> q_, k_, v_;  // [kLayers]
};

TEST_P(PagedBlockAttentionTest, ChoosesAndAttendsAsTheReferenceInFloat32) {
  Blocks expected;
  const Tensor reference = run_reference(torch::kFloat32, expected);
  EachInstructionSet().run([&] {
    for (const int64_t piece : {1000, 37}) {
      Blocks ours;
      EXPECT_TRUE(all_close(run_paged(torch::kFloat32, KvType::kF32, piece, ours), reference, 2e-5))
          << "piece " << piece;
      EXPECT_EQ(ours.of, expected.of) << "piece " << piece;
    }
  });
}

TEST_P(PagedBlockAttentionTest, ErrsAtMostTwiceAsMuchAsLibTorchInBFloat16) {
  Blocks expected;
  const Tensor plain = run_reference(torch::kBFloat16, expected);
  const Tensor truth = attend_exactly(expected);
  const double allowed = 2 * largest_difference(plain, truth);
  EachInstructionSet().run([&] {
    Blocks ours;
    EXPECT_TRUE(all_close(run_paged(torch::kBFloat16, KvType::kBF16, 50, ours), truth, allowed));
    EXPECT_EQ(ours.of, expected.of);
  });
}

/// Keys and means as int8: the blocks that the reference chooses among the stored means.
TEST_P(PagedBlockAttentionTest, RanksTheStoredMeansInInt8) {
  const int64_t head_dim = GetParam().head_dim, block_size = GetParam().blocks.block_size;
  const auto stored = [&](const Tensor& x) {  // [heads, n, head_dim] f32
    Tensor out = torch::empty_like(x, torch::MemoryFormat::Contiguous);
    const Tensor in = x.contiguous();
    std::vector<std::byte> vector(static_cast<size_t>(vector_bytes(KvType::kInt8, head_dim)));
    for (int64_t at = 0; at < in.numel(); at += head_dim) {
      store_vector(KvType::kInt8, in.const_data_ptr<float>() + at, head_dim, vector.data());
      load_vector(KvType::kInt8, vector.data(), head_dim, out.mutable_data_ptr<float>() + at);
    }
    return out;
  };
  EachInstructionSet().run([&] {
    Blocks ours;
    run_paged(torch::kFloat32, KvType::kInt8, 50, ours);
    int64_t n_other = 0;
    for (size_t layer = 0; layer < kLayers; ++layer) {
      const Tensor keys = stored(k_[layer].to(torch::kFloat32).transpose(0, 1));
      const Tensor expected = select_blocks(q_[layer].to(torch::kFloat32),
                                            stored(block_means(keys, block_size)),
                                            0,
                                            scale(),
                                            GetParam().blocks);
      const Tensor table =
          table_of(ours, static_cast<int64_t>(layer)).narrow(2, 0, expected.size(2));
      n_other += table.ne(expected).any(-1).sum().item<int64_t>();
    }
    // Queries meet bytes as 16-bit integers: importances 1e-4 apart may change places.
    EXPECT_LE(n_other, kLayers * n_tokens() * GetParam().n_kv_heads / 200);
  });
}

TEST_P(PagedBlockAttentionTest, GoesOnInAnotherWayAfterARewind) {
  Blocks straight, rewound;
  PagedBlockAttention attention(make_paged_cache(config(), KvType::kF32, 0), GetParam().blocks);
  const Tensor expected = run(attention, torch::kFloat32, 64, straight);
  for (const int64_t length : {int64_t{0}, int64_t{101}, n_tokens() - 20}) {
    const int64_t unlike = std::min<int64_t>(60, n_tokens() - length);
    attention.set_observer(nullptr);
    attention.rewind(length);
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      const auto noise = [&](int64_t heads) {
        return torch::randn({unlike, heads, GetParam().head_dim}) * 3;
      };
      attention.attend(layer,
                       {noise(GetParam().n_heads),
                        noise(GetParam().n_kv_heads),
                        noise(GetParam().n_kv_heads),
                        scale()});
    }
    attention.rewind(length);
    const Tensor again = run(attention, torch::kFloat32, 64, rewound, length);
    EXPECT_TRUE(all_close(again, expected.narrow(1, length, n_tokens() - length), 1e-5)) << length;
  }
  EXPECT_EQ(rewound.of, straight.of);
}

BlockOptions blocks(int64_t size, int64_t n, BlockRule rule = BlockRule::kExact) {
  return {.block_size = size, .n_blocks = n, .rule = rule};
}
const auto kPublished = BlockRule::kPublished;

INSTANTIATE_TEST_SUITE_P(
    ,
    PagedBlockAttentionTest,
    ::testing::Values(
        PagedBlockSetting{"the paper's heads", 32, 2, 64, blocks(16, 16), 420},
        PagedBlockSetting{"published", 32, 2, 64, blocks(16, 16, kPublished), 420},
        PagedBlockSetting{"published, both sides", 6, 2, 64, blocks(8, 8, kPublished)},
        PagedBlockSetting{"published, rounded up", 6, 2, 64, blocks(8, 3, kPublished)},
        PagedBlockSetting{"three heads each", 9, 3, 64, blocks(16, 4)},
        PagedBlockSetting{"one head each", 4, 4, 32, blocks(8, 5)},
        PagedBlockSetting{"large blocks", 14, 2, 128, blocks(32, 4)},
        PagedBlockSetting{"blocks across pages", 8, 1, 40, blocks(24, 3)},
        PagedBlockSetting{"own block alone", 4, 2, 80, blocks(16, 1)},
        PagedBlockSetting{"tokens for blocks", 4, 2, 32, blocks(1, 9)},
        PagedBlockSetting{"everything", 4, 2, 32, blocks(16, 1000)}));

/// Long enough that a token's heads are split where they cannot be shared out evenly.
TEST(PagedBlockAttention, ThreadsDoNotMatter) {
  struct Shape {
    int64_t n_heads, n_kv_heads, n_tokens;
  };
  const int n_threads = torch::get_num_threads();
  for (const auto& [n_heads, n_kv_heads, n] : {Shape{6, 3, 2100}, Shape{16, 1, 1100}}) {
    ModelConfig config;
    config.n_layers = 1;
    config.n_heads = n_heads;
    config.n_kv_heads = n_kv_heads;
    config.head_dim = 16;
    torch::manual_seed(5);
    const auto random = [n = n](int64_t heads) { return torch::randn({n, heads, 16}); };
    const Tensor q = random(n_heads), k = random(n_kv_heads), v = random(n_kv_heads);
    std::vector<Tensor> outs;
    std::vector<Blocks> chosen;
    for (const int team : {1, 2, 3}) {
      torch::set_num_threads(team);
      PagedBlockAttention attention(make_paged_cache(config, KvType::kF32, 0), blocks(1, 8));
      attention.set_observer(&chosen.emplace_back());
      std::vector<Tensor> passes;
      for (int64_t first = 0, size = n - 4; first < n; first += size, size = 1) {
        const auto part = [&](const Tensor& x) { return x.narrow(0, first, size); };
        passes.push_back(attention.attend(0, {part(q), part(k), part(v), 0.3}));
      }
      attention.set_observer(nullptr);
      outs.push_back(torch::cat(passes));
    }
    for (const size_t i : {1, 2}) {
      EXPECT_EQ(chosen[i].of, chosen[0].of);
      EXPECT_TRUE(all_close(outs[i], outs[0], 1e-5));
    }
  }
  torch::set_num_threads(n_threads);
}

TEST(PagedBlockAttention, CountsItsMeans) {
  ModelConfig config;
  config.n_layers = 3;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 64;
  PagedBlockAttention attention(make_paged_cache(config, KvType::kBF16, 0), blocks(16, 4));
  attention.fill_random(100);
  for (int64_t layer = 0; layer < 3; ++layer) {
    const Tensor one = torch::randn({1, 2, 64});
    attention.attend(layer, {torch::randn({1, 4, 64}), one, one, 0.1});
  }
  const KvBytes bytes = attention.bytes();
  EXPECT_EQ(bytes.raw, 3 * 101 * 2 * 2 * 64 * 2);
  EXPECT_EQ(bytes.extra, 3 * 6 * 2 * 64 * 2);
  EXPECT_EQ(bytes.gist, 0);
}

TEST(PagedBlockAttention, RefusesBlocksOfNoTokens) {
  ModelConfig config;
  config.n_layers = 1;
  config.n_heads = config.n_kv_heads = 1;
  config.head_dim = 64;
  const auto make = [&](const BlockOptions& options) {
    PagedBlockAttention(make_paged_cache(config, KvType::kBF16, 0), options);
  };
  expect_error([&] { make(blocks(0, 4)); }, "block size 0");
  expect_error([&] { make(blocks(16, -1)); }, "number of blocks -1");
  expect_error([&] { make(blocks(8, 9, kPublished)); }, "number of blocks 9");
}

}  // namespace
}  // namespace ssa
