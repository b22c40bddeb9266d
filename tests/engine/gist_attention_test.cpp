#include "engine/gist_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "gist/interleave.h"
#include "models/factory.h"
#include "support/tiny_model.h"

namespace ssa {
namespace {

struct GistSetting {
  const char* model;
  ChunkSizes chunk;
};

void PrintTo(const GistSetting& setting, std::ostream* out) {
  *out << setting.model << " " << format_chunk_sizes(setting.chunk);
}

class GistAttentionTest : public ::testing::TestWithParam<GistSetting> {
 protected:
  void SetUp() override {
    const GoldenModel golden = open_golden_model(GetParam().model);
    model_ = load_model(*golden.checkpoint, {.dtype = torch::kFloat64});
    settings_.chunk = GetParam().chunk;
    settings_.token_ids = {90, 91, 92};
    settings_.word_aware = false;
  }

  std::vector<int64_t> raw_ids(int64_t n, int64_t salt) const {
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < n; ++i) {
      ids.push_back((i * i * 7 + i * 13 + salt) % 89);
    }
    return ids;
  }

  /// A prompt of two pieces and a raw question.
  GistLayout prompt() const {
    const std::vector<std::vector<int64_t>> pieces = {raw_ids(11, 1), raw_ids(83, 2)};
    GistLayout layout = lay_pieces(pieces, settings_, {});
    layout.append_raw(raw_ids(9, 3));
    return layout;
  }

  Sequence sequence_over(const GistLayout& layout, const GistAttentionOptions& options) const {
    KvCache cache(model_->config(), torch::kFloat64, torch::kCPU, 16);
    return {*model_, std::make_unique<GistAttention>(std::move(cache), layout, options)};
  }

  /// Hidden states of the whole prompt in passes of `piece`, then of the generated tokens one by
  /// one.
  Tensor run(const GistAttentionOptions& options,
             int64_t piece,
             const std::vector<int64_t>& generated) const {
    const GistLayout layout = prompt();
    Sequence sequence = sequence_over(layout, options);
    std::vector<Tensor> rows;
    const auto collect = [&](int64_t, const Tensor& hidden) { rows.push_back(hidden.clone()); };
    sequence.advance(layout.ids(), layout.positions(), piece, collect);
    int64_t position = layout.positions().back();
    for (const int64_t id : generated) {
      ++position;
      sequence.advance({&id, 1}, {&position, 1}, 1, collect);
    }
    return torch::cat(rows);
  }

  std::shared_ptr<CausalLM> model_;
  GistSettings settings_;
};

double max_difference(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST_P(GistAttentionTest, PiecesDoNotMatter) {
  for (const bool unfold : {false, true}) {
    const GistAttentionOptions options{.unfold = unfold};
    const std::vector<int64_t> generated = raw_ids(8, 5);
    const Tensor whole = run(options, 1000, generated);
    for (const int64_t piece : {60, 27, 5}) {
      EXPECT_LT(max_difference(run(options, piece, generated), whole), 1e-9) << "piece " << piece;
    }
  }
}

/// All of the mass unfolds everything: the same as a mask that shows a suffix query every raw token
/// and gist.
TEST_P(GistAttentionTest, AllOfTheMassAttendsAllRawTokensAndGists) {
  GistAttentionOptions everything;
  everything.selection.mass = 1.0;
  const std::vector<int64_t> generated = raw_ids(8, 5);
  GistAttentionOptions generous;
  generous.selection.budget = 1 << 20;
  generous.selection.upper_top_k = 1 << 20;
  EXPECT_LT(max_difference(run(everything, 1000, generated), run(generous, 1000, generated)),
            1e-12);
  const std::vector<int64_t> all = [&] {
    std::vector<int64_t> indices(static_cast<size_t>(prompt().n_tokens()));
    std::iota(indices.begin(), indices.end(), int64_t{0});
    return indices;
  }();
  const GistLayout layout = prompt();
  KeptGists kept(static_cast<size_t>(layout.n_levels()));
  for (int level = 0; level < layout.n_levels(); ++level) {
    for (int64_t gist = 0; gist < layout.n_gists(level); ++gist) {
      kept[static_cast<size_t>(level)].push_back(gist);
    }
  }
  EXPECT_EQ(attended_keys({layout, true}, {}, kept, layout.n_tokens() - 1, false), all);
}

/// Cached decode equals computing every step from scratch: 64 steps.
TEST_P(GistAttentionTest, CachedDecodeEqualsRecomputing) {
  const std::vector<int64_t> generated = raw_ids(64, 5);
  const Tensor cached = run({}, 40, generated);
  for (const size_t n : {size_t{1}, size_t{17}, size_t{64}}) {
    const GistLayout layout = prompt();
    Sequence sequence = sequence_over(layout, {});
    Tensor last;
    const auto keep = [&](int64_t, const Tensor& hidden) {
      last = hidden.slice(0, hidden.size(0) - 1).clone();
    };
    sequence.advance(layout.ids(), layout.positions(), 1000, keep);
    std::vector<int64_t> positions =
        consecutive_positions(layout.positions().back() + 1, static_cast<int64_t>(n));
    sequence.advance(
        {generated.data(), n}, positions, 1000, keep);  // all generated tokens in one pass
    EXPECT_LT(
        max_difference(last.squeeze(0), cached[layout.n_tokens() + static_cast<int64_t>(n) - 1]),
        1e-9)
        << n;
  }
}

/// A second question reads on from the documents.
TEST_P(GistAttentionTest, RewindsToAnotherQuestion) {
  const GistLayout first = prompt();
  GistLayout second(first.chunk_sizes(), {90, 91, 92});
  for (int64_t t = 0; t < first.prefix_end(); ++t) {
    const int level = first.levels()[static_cast<size_t>(t)];
    level == kRawLevel ? second.append_raw(first.ids()[static_cast<size_t>(t)])
                       : second.append_gist(level);
  }
  second.append_raw(raw_ids(14, 77));
  Tensor fresh, again;
  Sequence alone = sequence_over(second, {});
  alone.advance(second.ids(), second.positions(), 1000, [&](int64_t, const Tensor& hidden) {
    fresh = hidden.clone();
  });
  Sequence reused = sequence_over(first, {});
  reused.advance(first.ids(), first.positions(), 1000, {});
  const auto kept = static_cast<size_t>(first.prefix_end());
  reused.rewind(first.prefix_end());
  dynamic_cast<GistAttention&>(reused.attention()).replace_prompt(second, first.prefix_end());
  reused.advance(second.ids().subspan(kept),
                 second.positions().subspan(kept),
                 1000,
                 [&](int64_t, const Tensor& hidden) { again = hidden.clone(); });
  EXPECT_LT(max_difference(again, fresh.slice(0, fresh.size(0) - again.size(0))), 1e-9);
}

INSTANTIATE_TEST_SUITE_P(Levels,
                         GistAttentionTest,
                         ::testing::Values(GistSetting{"llama-gqa3-tied-llama3", {4}},
                                           GistSetting{"qwen2-gqa7-tied", {4}},
                                           GistSetting{"llama-mha", {4, 2}},
                                           GistSetting{"qwen2-gqa7-tied", {2, 2, 2}}));

/// Without gists: the prompt is read with full attention, and a budget for everything changes
/// nothing.
TEST(GistAttentionWithoutGists, UnfoldingEverythingIsFullAttention) {
  const GoldenModel golden = open_golden_model("llama-gqa3-tied-llama3");
  const auto model = load_model(*golden.checkpoint, {.dtype = torch::kFloat64});
  GistSettings settings;
  settings.chunk = {4};
  settings.token_ids = {-1, -2, -3};
  settings.word_aware = false;
  const std::vector<int64_t> ids = consecutive_positions(5, 60);
  const GistLayout layout = lay_prefix(ids, settings, {});
  const auto positions = consecutive_positions(0, 60);
  for (const Pivot pivot : {Pivot::kMean, Pivot::kQuest, Pivot::kRecent, Pivot::kRandom}) {
    GistAttentionOptions options{.has_gists = false};
    options.selection.pivot = pivot;
    options.selection.mass = 1.0;
    const auto cache = [&] { return KvCache(model->config(), torch::kFloat64, torch::kCPU, 16); };
    Sequence sparse(*model, std::make_unique<GistAttention>(cache(), layout, options));
    Sequence full(*model, std::make_unique<FullAttention>(cache()));
    std::vector<Tensor> last(2);
    int i = 0;
    for (Sequence* sequence : {&sparse, &full}) {
      Tensor& row = last[static_cast<size_t>(i++)];
      sequence->advance(ids, positions, 25, {});
      const int64_t id = 3, position = 60;
      sequence->advance({&id, 1}, {&position, 1}, 1, [&](int64_t, const Tensor& hidden) {
        row = hidden.clone();
      });
    }
    EXPECT_LT(max_difference(last[0], last[1]), 1e-9);
  }
}

}  // namespace
}  // namespace ssa
