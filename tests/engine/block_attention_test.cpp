#include "engine/block_attention.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <tuple>

#include "models/factory.h"
#include "support/compare.h"
#include "support/expect_error.h"
#include "support/tiny_model.h"

namespace ssa {
namespace {

constexpr int64_t kWindow = 13;

struct BlockSetting {
  const char* model;
  BlockOptions options;
  bool nsa = false;
};

void PrintTo(const BlockSetting& setting, std::ostream* out) {
  *out << setting.model << ", " << setting.options.n_blocks << " blocks of "
       << setting.options.block_size << (setting.nsa ? ", NSA" : "");
}

/// The blocks each query of each layer and head read.
class BlockChoices : public BlockObserver {
 public:
  using Key = std::tuple<int64_t, int64_t, int64_t>;

  void on_blocks(int64_t layer,
                 int64_t index,
                 int64_t kv_head,
                 std::span<const int64_t> blocks,
                 int64_t n_attended) override {
    chosen[{layer, index, kv_head}] = {blocks.begin(), blocks.end()};
    attended[{layer, index, kv_head}] = n_attended;
  }
  bool operator==(const BlockChoices& other) const { return chosen == other.chosen; }

  std::map<Key, std::vector<int64_t>> chosen;
  std::map<Key, int64_t> attended;
};

class BlockAttentionTest : public ::testing::TestWithParam<BlockSetting> {
 protected:
  static constexpr int64_t kTokens = 101;

  void SetUp() override { load(torch::kFloat64); }

  void load(torch::ScalarType dtype) {
    model_ = load_model(*open_golden_model(GetParam().model).checkpoint, {.dtype = dtype});
    ids_.clear();
    for (int64_t i = 0; i < kTokens; ++i) {
      ids_.push_back((i * i * 7 + i * 13) % 89);
    }
    positions_ = consecutive_positions(0, kTokens);
  }

  std::unique_ptr<BlockSparseAttention> attention(const BlockOptions& options) const {
    const auto cache = [&] { return KvCache(model_->config(), model_->dtype(), torch::kCPU, 8); };
    return GetParam().nsa ? std::make_unique<NsaAttention>(cache(), cache(), options, kWindow)
                          : std::make_unique<BlockSparseAttention>(cache(), cache(), options);
  }

  /// Hidden states of tokens [begin, kTokens) in passes of `piece`.
  Tensor advance(Sequence& sequence, int64_t begin, int64_t piece) const {
    std::vector<Tensor> rows;
    const auto from = static_cast<size_t>(begin);
    sequence.advance(std::span(ids_).subspan(from),
                     std::span(positions_).subspan(from),
                     piece,
                     [&](int64_t, const Tensor& hidden) { rows.push_back(hidden.clone()); });
    return torch::cat(rows);
  }

  Tensor run(std::unique_ptr<BlockSparseAttention> way,
             int64_t piece,
             BlockChoices* choices) const {
    way->set_observer(choices);
    Sequence sequence(*model_, std::move(way));
    return advance(sequence, 0, piece);
  }

  std::shared_ptr<CausalLM> model_;
  std::vector<int64_t> ids_, positions_;
};

TEST_P(BlockAttentionTest, PiecesAndDecodeGiveWhatOnePassGives) {
  for (const auto dtype : {torch::kFloat64, torch::kFloat32}) {
    load(dtype);
    BlockChoices whole, parts;
    const Tensor expected = run(attention(GetParam().options), kTokens, &whole);
    for (const int64_t piece : {1, 7, 16, 60}) {
      const Tensor hidden = run(attention(GetParam().options), piece, &parts);
      EXPECT_TRUE(all_close(hidden, expected, dtype == torch::kFloat64 ? 1e-11 : 1e-4))
          << "pieces of " << piece;
      EXPECT_TRUE(parts == whole) << "pieces of " << piece;
    }
  }
}

TEST_P(BlockAttentionTest, RewoundAndReadAgainIsTheSame) {
  auto way = attention(GetParam().options);
  Sequence sequence(*model_, std::move(way));
  const Tensor expected = advance(sequence, 0, kTokens);
  for (const int64_t length : {96, 63, 64, 5, 0}) {
    sequence.rewind(length);
    const Tensor again = advance(sequence, length, 9);
    EXPECT_TRUE(all_close(again, expected.slice(0, length), 1e-11)) << "rewound to " << length;
  }
}

TEST_P(BlockAttentionTest, ABudgetThatCoversAllIsFullAttention) {
  if (GetParam().nsa) {
    return;  // has branches beside it
  }
  BlockOptions everything = GetParam().options;
  everything.rule = BlockRule::kExact;
  everything.n_blocks = kTokens;
  Sequence full(*model_,
                std::make_unique<FullAttention>(
                    KvCache(model_->config(), torch::kFloat64, torch::kCPU, kTokens)));
  EXPECT_TRUE(all_close(run(attention(everything), 40, nullptr), advance(full, 0, kTokens), 1e-11));
}

TEST_P(BlockAttentionTest, ObserversSeeOwnBlocksAndBudgets) {
  BlockChoices choices;
  run(attention(GetParam().options), 31, &choices);
  const ModelConfig& config = model_->config();
  EXPECT_EQ(static_cast<int64_t>(choices.chosen.size()),
            config.n_layers * config.n_kv_heads * kTokens);
  const BlockOptions& options = GetParam().options;
  for (const auto& [key, blocks] : choices.chosen) {
    const int64_t t = std::get<1>(key), own = t / options.block_size;
    ASSERT_EQ(blocks.back(), own);
    if (options.rule == BlockRule::kExact) {
      ASSERT_EQ(static_cast<int64_t>(blocks.size()), std::min(options.n_blocks, own + 1));
    }
    ASSERT_EQ(
        choices.attended[key],
        static_cast<int64_t>(blocks.size() - 1) * options.block_size + t % options.block_size + 1);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models,
    BlockAttentionTest,
    ::testing::Values(
        BlockSetting{"llama-nsa", {.block_size = 8, .n_blocks = 3}},
        BlockSetting{"llama-nsa", {.block_size = 4, .n_blocks = 4, .rule = BlockRule::kPublished}},
        BlockSetting{"llama-nsa", {.block_size = 8, .n_blocks = 3}, true},
        BlockSetting{
            "llama-nsa", {.block_size = 4, .n_blocks = 4, .rule = BlockRule::kPublished}, true},
        BlockSetting{"qwen2-gqa7-tied", {.block_size = 5, .n_blocks = 1}},
        BlockSetting{"qwen3-gqa2", {.block_size = 16, .n_blocks = 2}}));

TEST(NsaAttention, RefusesModelsWithoutGates) {
  const auto model = load_model(*open_golden_model("llama-mha").checkpoint);
  const KvCache cache(model->config(), torch::kFloat32, torch::kCPU, 8);
  Sequence sequence(*model, std::make_unique<NsaAttention>(cache, cache, BlockOptions(), kWindow));
  const std::vector<int64_t> ids = {1, 2}, positions = {0, 1};
  expect_error([&] { sequence.advance(ids, positions, 2, {}); }, "gates");
  expect_error([&] { NsaAttention(cache, cache, {}, 0); }, "window size 0");
}

}  // namespace
}  // namespace ssa
