#include "engine/chunk_closer.h"

#include <gtest/gtest.h>

#include "engine/gist_attention.h"
#include "engine/paged_sequence.h"
#include "models/factory.h"
#include "support/tiny_model.h"

namespace ssa {
namespace {

/// A model, a prompt of 40 tokens with gists and 5 without, and an answer of 30 tokens closed as it
/// grows.
class ChunkCloserTest : public ::testing::TestWithParam<ChunkSizes> {
 protected:
  void SetUp() override {
    golden_.emplace(open_golden_model("llama-gqa3-tied-llama3"));
    settings_.chunk = GetParam();
    settings_.token_ids = {90, 91, 92};
    settings_.word_aware = false;
    layout_.emplace(lay_prefix(consecutive_positions(3, 40), settings_, {}));
    layout_->append_raw(consecutive_positions(50, 5));
  }

  static int64_t answer_token(int64_t i) { return (i * 7 + 11) % 80; }

  /// Hidden states of the answer's tokens: [30, hidden_size] f64. `grown`: the layout at the end.
  Tensor answer(CausalLM& model,
                std::unique_ptr<ChunkedAttention> attention,
                std::optional<GistLayout>& grown) const {
    ChunkedAttention& chunked = *attention;
    std::vector<int64_t> ids;  // without gists where the sequence has none
    for (int64_t t = 0; t < layout_->n_tokens(); ++t) {
      if (chunked.has_gists() || layout_->levels()[static_cast<size_t>(t)] == kRawLevel) {
        ids.push_back(layout_->ids()[static_cast<size_t>(t)]);
      }
    }
    std::vector<int64_t> positions = consecutive_positions(0, static_cast<int64_t>(ids.size()));
    if (chunked.has_gists()) {
      positions.assign(layout_->positions().begin(), layout_->positions().end());
    }
    Sequence sequence(model, std::move(attention));
    sequence.advance(ids, positions, 1000, {});
    ChunkCloser closer(sequence, chunked, nullptr);
    std::vector<Tensor> rows;
    int64_t position = positions.back();
    for (int64_t i = 0; i < 30; ++i) {
      const int64_t token = answer_token(i);
      closer.before(token, position);
      ++position;
      sequence.advance({&token, 1}, {&position, 1}, 1, [&](int64_t, const Tensor& hidden) {
        rows.push_back(hidden.to(torch::kFloat64).clone());
      });
    }
    grown.emplace(chunked.layout());
    return torch::cat(rows);
  }

  std::shared_ptr<CausalLM> model(torch::ScalarType dtype) const {
    return load_model(*golden_->checkpoint, {.dtype = dtype});
  }

  std::optional<GoldenModel> golden_;
  GistSettings settings_;
  std::optional<GistLayout> layout_;
};

TEST_P(ChunkCloserTest, LaysTheAnswerAsAPieceBehindTheQuestion) {
  const auto loaded = model(torch::kFloat64);
  std::optional<GistLayout> grown;
  answer(
      *loaded,
      std::make_unique<GistAttention>(KvCache(loaded->config(), torch::kFloat64, torch::kCPU, 64),
                                      *layout_,
                                      GistAttentionOptions{}),
      grown);
  GistLayout expected(*layout_);
  expected.append_gist(0);  // the question
  const int64_t size = GetParam()[0];
  for (int64_t i = 0; i < 30; ++i) {
    if (i > 0 && i % size == 0) {
      expected.append_gist(0);
      for (int level = 1; level < expected.n_levels() &&
                          expected.n_open(level) == GetParam()[static_cast<size_t>(level)];
           ++level) {
        expected.append_gist(level);
      }
    }
    expected.append_raw(answer_token(i));
  }
  EXPECT_TRUE(std::ranges::equal(grown->ids(), expected.ids()));
  EXPECT_TRUE(std::ranges::equal(grown->levels(), expected.levels()));
  EXPECT_TRUE(std::ranges::equal(grown->positions(), expected.positions()));
  EXPECT_GT(grown->n_gists(0), layout_->n_gists(0) + 2);
}

/// Token by token with gists as they come, by the plain reference and by kernels; with gists and
/// with means.
TEST_P(ChunkCloserTest, PagedEqualsReference) {
  const auto loaded = model(torch::kFloat32);
  for (const bool has_gists : {true, false}) {
    GistAttentionOptions options{.has_gists = has_gists};
    options.selection.pivot = has_gists ? Pivot::kGist : Pivot::kMean;
    std::optional<GistLayout> grown;
    const auto run = [&](std::unique_ptr<ChunkedAttention> attention) {
      return answer(*loaded, std::move(attention), grown);
    };
    const Tensor plain = run(std::make_unique<GistAttention>(
        KvCache(loaded->config(), torch::kFloat32, torch::kCPU, 64), *layout_, options));
    const Tensor paged = run(std::make_unique<PagedGistAttention>(
        make_paged_cache(loaded->config(), KvType::kF32, has_gists ? layout_->n_levels() : 0),
        *layout_,
        options));
    EXPECT_LT((plain - paged).abs().max().item<double>(), 1e-4) << "has_gists " << has_gists;
  }
}

INSTANTIATE_TEST_SUITE_P(,
                         ChunkCloserTest,
                         ::testing::Values(ChunkSizes{4}, ChunkSizes{8}, ChunkSizes{4, 2}));

}  // namespace
}  // namespace ssa
