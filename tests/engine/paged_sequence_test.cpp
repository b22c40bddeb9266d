// The fast ways of attending against the plain ones: the same chunks chosen, outputs as near the
// truth as LibTorch's.
#include "engine/paged_sequence.h"

#include <gtest/gtest.h>

#include <random>

#include "engine/gist_attention.h"
#include "gist/interleave.h"
#include "support/compare.h"
#include "support/each_instruction_set.h"

namespace ssa {
namespace {

struct Shape {
  int64_t n_heads, n_kv_heads, head_dim;
};

struct PagedGistSetting {
  const char* name;
  Shape shape;
  ChunkSizes chunk;
  GistAttentionOptions options;
};

void PrintTo(const PagedGistSetting& setting, std::ostream* out) {
  *out << setting.name;
}

GistAttentionOptions with(const std::function<void(GistAttentionOptions&)>& change) {
  GistAttentionOptions options;
  change(options);
  return options;
}

ModelConfig config_of(const Shape& shape) {
  ModelConfig config;
  config.n_layers = 2;
  config.n_heads = shape.n_heads;
  config.n_kv_heads = shape.n_kv_heads;
  config.head_dim = shape.head_dim;
  return config;
}

/// Notes what was chosen.
class Choices : public SelectionObserver {
 public:
  struct Choice {
    int64_t layer, index, kv_head, n_attended;
    KeptGists kept;
    bool operator==(const Choice&) const = default;
  };
  void on_selection(int64_t layer,
                    int64_t index,
                    int64_t kv_head,
                    const KeptGists& kept,
                    int64_t n_attended) override {
    all.push_back({layer, index, kv_head, n_attended, kept});
  }
  std::vector<Choice> all;
};

/// One prompt and some generated tokens, with random projections.
class PagedGistAttentionTest : public ::testing::TestWithParam<PagedGistSetting> {
 protected:
  static constexpr int64_t kGenerated = 5;

  void SetUp() override {
    torch::manual_seed(7);
    GistSettings settings;
    settings.chunk = GetParam().chunk;
    settings.token_ids = {90, 91, 92};
    settings.word_aware = false;
    const std::vector<std::vector<int64_t>> pieces = {std::vector<int64_t>(21, 1),
                                                      std::vector<int64_t>(370, 2)};
    layout_ = std::make_unique<GistLayout>(lay_pieces(pieces, settings, {}));
    layout_->append_raw(std::vector<int64_t>(9, 3));
    n_prompt_ = GetParam().options.has_gists ? layout_->n_tokens() : layout_->n_raw();
    const Shape& shape = GetParam().shape;
    const int64_t n = n_prompt_ + kGenerated;
    for (int64_t layer = 0; layer < 2; ++layer) {
      // Rounded to bfloat16, so that every number type starts from the same values.
      const auto random = [&](int64_t heads) {
        return torch::randn({n, heads, shape.head_dim}).to(torch::kBFloat16);
      };
      q_.push_back(random(shape.n_heads));
      k_.push_back(random(shape.n_kv_heads));
      v_.push_back(random(shape.n_kv_heads));
    }
  }

  /// Outputs of both layers: [2, n, n_heads, head_dim] f64.
  Tensor run(ChunkedAttention& attention,
             torch::ScalarType dtype,
             int64_t piece,
             Choices& choices) const {
    attention.set_observer(&choices);
    std::vector<Tensor> passes;
    for (int64_t first = 0; first < n_prompt_ + kGenerated;) {
      const int64_t wanted = first < n_prompt_ ? std::min(piece, n_prompt_ - first) : 1;
      const int64_t n = attention.pass_limit(first, wanted);
      attention.begin_pass(first, std::vector<int64_t>(static_cast<size_t>(n), 3));
      std::vector<Tensor> layers;
      for (size_t layer = 0; layer < 2; ++layer) {
        const auto part = [&](const Tensor& all) { return all.narrow(0, first, n).to(dtype); };
        const double scale = 1.0 / std::sqrt(static_cast<double>(GetParam().shape.head_dim));
        layers.push_back(attention
                             .attend(static_cast<int64_t>(layer),
                                     {.q = part(q_[layer]),
                                      .k = part(k_[layer]),
                                      .v = part(v_[layer]),
                                      .scale = scale})
                             .to(torch::kFloat64));
      }
      passes.push_back(torch::stack(layers));
      first += n;
    }
    return torch::cat(passes, 1);
  }

  Tensor run_reference(torch::ScalarType dtype, Choices& choices) const {
    GistAttention attention(
        KvCache(config_of(GetParam().shape), dtype, torch::kCPU, 64), *layout_, GetParam().options);
    return run(attention, dtype, 1000, choices);
  }

  Tensor run_paged(torch::ScalarType dtype, KvType type, int64_t piece, Choices& choices) const {
    const int n_levels = GetParam().options.has_gists ? layout_->n_levels() : 0;
    PagedGistAttention attention(make_paged_cache(config_of(GetParam().shape), type, n_levels),
                                 *layout_,
                                 GetParam().options);
    return run(attention, dtype, piece, choices);
  }

  std::unique_ptr<GistLayout> layout_;
  int64_t n_prompt_ = 0;
  std::vector<Tensor> q_, k_, v_;  // [n_layers]
};

/// Sorted by place, since the paged version may tell of a pass's tokens in another order.
void expect_same_choices(const Choices& ours, const Choices& reference) {
  ASSERT_EQ(ours.all.size(), reference.all.size());
  const auto find = [&](const Choices::Choice& wanted) {
    return std::find_if(
        reference.all.begin(), reference.all.end(), [&](const Choices::Choice& each) {
          return each.layer == wanted.layer && each.index == wanted.index &&
                 each.kv_head == wanted.kv_head;
        });
  };
  for (const Choices::Choice& choice : ours.all) {
    const auto same = find(choice);
    ASSERT_NE(same, reference.all.end());
    EXPECT_EQ(choice.kept, same->kept) << "layer " << choice.layer << " token " << choice.index;
    EXPECT_EQ(choice.n_attended, same->n_attended)
        << "layer " << choice.layer << " token " << choice.index;
  }
}

TEST_P(PagedGistAttentionTest, ChoosesAndAttendsAsTheReferenceInFloat32) {
  Choices expected;
  const Tensor reference = run_reference(torch::kFloat32, expected);
  EachInstructionSet().run([&] {
    for (const int64_t piece : {1000, 37}) {
      Choices ours;
      EXPECT_TRUE(all_close(run_paged(torch::kFloat32, KvType::kF32, piece, ours), reference, 2e-5))
          << "piece " << piece;
      expect_same_choices(ours, expected);
    }
  });
}

/// The truth: the same bfloat16 projections in float64.
TEST_P(PagedGistAttentionTest, ErrsAtMostTwiceAsMuchAsLibTorchInBFloat16) {
  Choices unused, expected;
  const Tensor truth = run_reference(torch::kFloat64, expected);
  const double allowed = 2 * largest_difference(run_reference(torch::kBFloat16, unused), truth);
  EachInstructionSet().run([&] {
    Choices ours;
    EXPECT_TRUE(all_close(run_paged(torch::kBFloat16, KvType::kBF16, 50, ours), truth, allowed));
    // Means are kept as bfloat16, of which the float64 reference knows nothing.
    if (GetParam().options.selection.pivot != Pivot::kMean) {
      expect_same_choices(ours, expected);
    }
  });
}

/// Only where nothing is chosen: rounded keys choose other chunks.
class PagedInt8Test : public PagedGistAttentionTest {};

TEST_P(PagedInt8Test, KeysAndValuesPointTheSameWay) {
  Choices unused;
  const Tensor reference = run_reference(torch::kFloat32, unused);
  EachInstructionSet().run([&] {
    const Tensor ours = run_paged(torch::kFloat32, KvType::kInt8, 50, unused);
    EXPECT_GT(
        torch::cosine_similarity(ours.flatten(2), reference.flatten(2), -1).min().item<double>(),
        0.999);
  });
}

const auto kOnlyMasked = with([](auto& o) { o.unfold = false; });
INSTANTIATE_TEST_SUITE_P(,
                         PagedInt8Test,
                         ::testing::Values(PagedGistSetting{"flat", {6, 2, 64}, {8}, kOnlyMasked},
                                           PagedGistSetting{"qwen", {14, 2, 128}, {8}, kOnlyMasked},
                                           PagedGistSetting{
                                               "two levels", {6, 2, 80}, {4, 4}, kOnlyMasked}));

INSTANTIATE_TEST_SUITE_P(
    ,
    PagedGistAttentionTest,
    ::testing::Values(
        PagedGistSetting{"flat", {6, 2, 64}, {8}, {}},
        PagedGistSetting{"qwen", {14, 2, 128}, {4}, {}},
        PagedGistSetting{"one head each", {4, 4, 32}, {8}, {}},
        PagedGistSetting{"odd head size", {4, 1, 40}, {8}, {}},
        PagedGistSetting{"largest head", {8, 1, 256}, {16}, {}},
        PagedGistSetting{"two levels", {6, 2, 64}, {4, 4}, {}},
        PagedGistSetting{"three levels", {8, 2, 64}, {4, 3, 2}, {}},
        PagedGistSetting{"gists", {6, 2, 64}, {8}, with([](auto& o) { o.unfold = false; })},
        PagedGistSetting{
            "gists of two levels", {6, 2, 80}, {4, 4}, with([](auto& o) { o.unfold = false; })},
        PagedGistSetting{"ratio", {6, 2, 64}, {4, 4}, with([](auto& o) { o.selection.ratio = 4; })},
        PagedGistSetting{
            "budget", {6, 2, 64}, {8, 2}, with([](auto& o) { o.selection.budget = 96; })},
        PagedGistSetting{"mass", {6, 2, 64}, {8, 2}, with([](auto& o) { o.selection.mass = 0.7; })},
        PagedGistSetting{
            "all of the mass", {6, 2, 64}, {8}, with([](auto& o) { o.selection.mass = 1; })},
        PagedGistSetting{"group", {6, 2, 64}, {4, 4}, with([](auto& o) {
                           o.selection.by = SelectBy::kGroupSum;
                         })},
        PagedGistSetting{"group maximum", {6, 2, 64}, {8}, with([](auto& o) {
                           o.selection.by = SelectBy::kGroupMax;
                         })},
        PagedGistSetting{"group softmax", {6, 2, 64}, {4, 4}, with([](auto& o) {
                           o.selection.by = SelectBy::kGroupSoftmax;
                         })},
        PagedGistSetting{"recent", {6, 2, 64}, {4, 4}, with([](auto& o) {
                           o.selection.pivot = Pivot::kRecent;
                         })},
        PagedGistSetting{
            "random", {6, 2, 64}, {8}, with([](auto& o) { o.selection.pivot = Pivot::kRandom; })},
        PagedGistSetting{
            "mean", {6, 2, 64}, {4, 4}, with([](auto& o) { o.selection.pivot = Pivot::kMean; })},
        PagedGistSetting{
            "quest", {6, 2, 64}, {4, 4}, with([](auto& o) { o.selection.pivot = Pivot::kQuest; })},
        PagedGistSetting{"mean without gists", {6, 2, 64}, {8}, with([](auto& o) {
                           o.has_gists = false;
                           o.selection.pivot = Pivot::kMean;
                         })},
        PagedGistSetting{"quest without gists", {6, 2, 64}, {8}, with([](auto& o) {
                           o.has_gists = false;
                           o.selection.pivot = Pivot::kQuest;
                         })},
        PagedGistSetting{"no previous chunks, many sinks", {6, 2, 64}, {4}, with([](auto& o) {
                           o.rule = {.sink = 11, .previous_chunks = 0};
                         })},
        PagedGistSetting{"instruction in front", {6, 2, 64}, {4, 2}, with([](auto& o) {
                           o.rule = {.sink = -1, .previous_chunks = 2};
                         })}));

TEST(PagedFullAttention, AttendsAsLibTorchDoes) {
  torch::manual_seed(3);
  const ModelConfig config = config_of({6, 2, 64});
  for (const auto dtype : {torch::kFloat32, torch::kBFloat16}) {
    const bool wide = dtype == torch::kFloat32;
    FullAttention plain(KvCache(config, dtype, torch::kCPU, 8));
    PagedFullAttention paged(make_paged_cache(config, wide ? KvType::kF32 : KvType::kBF16, 0));
    for (const int64_t n : {130, 3, 1, 1}) {
      const auto random = [&](int64_t heads) { return torch::randn({n, heads, 64}).to(dtype); };
      const AttentionInput in{.q = random(6), .k = random(2), .v = random(2), .scale = 0.125};
      EXPECT_TRUE(all_close(paged.attend(0, in), plain.attend(0, in), wide ? 1e-5 : 2e-2));
    }
  }
}

/// Several sequences of different length over one pool; what one gives back the next takes.
TEST(PagedKvCache, SequencesShareAPool) {
  const ModelConfig config = config_of({2, 2, 32});
  PagedKvCache first = make_paged_cache(config, KvType::kF32, 1);
  const auto pool = std::make_shared<PagePool>(PagedKvCache::page_bytes(first.shape()));
  const auto fill = [&](PagedKvCache& cache, int64_t n, float value) {
    const std::vector<float> rows(static_cast<size_t>(n * 64), value);
    cache.append(0,
                 {rows.data(), rows.data(), false, 64, 64},
                 std::vector<int8_t>(static_cast<size_t>(n), kRawLevel));
  };
  const auto holds = [](const PagedKvCache& cache, int64_t token, float value) {
    float key = 0;
    std::memcpy(&key, cache.row(0, 1, token), sizeof key);
    return key == value;
  };
  PagedKvCache a = make_paged_cache(config, KvType::kF32, 1, pool),
               b = make_paged_cache(config, KvType::kF32, 1, pool);
  fill(a, 100, 1.0F);
  fill(b, 70, 2.0F);
  fill(a, 100, 3.0F);
  EXPECT_TRUE(holds(a, 99, 1.0F) && holds(a, 100, 3.0F) && holds(a, 199, 3.0F) &&
              holds(b, 69, 2.0F));
  a.truncate(10, std::vector<int64_t>{0});
  fill(b, 300, 4.0F);
  EXPECT_TRUE(holds(a, 9, 1.0F) && holds(b, 69, 2.0F) && holds(b, 369, 4.0F));
  EXPECT_EQ(a.bytes().raw, 10 * 2 * 2 * 32 * 4);
}

}  // namespace
}  // namespace ssa
