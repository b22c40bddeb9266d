#include "engine/sequence.h"

#include <gtest/gtest.h>

#include "models/factory.h"
#include "scripted_model.h"
#include "support/compare.h"
#include "support/expect_error.h"
#include "support/tiny_model.h"

namespace ssa {
namespace {

std::unique_ptr<FullAttention> full_attention(const CausalLM& model, int64_t capacity) {
  return std::make_unique<FullAttention>(
      KvCache(model.config(), model.dtype(), model.device(), capacity));
}

std::vector<int64_t> to_list(const Tensor& ids) {
  return {ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + ids.numel()};
}

class SequenceTest : public ::testing::TestWithParam<std::string> {};

TEST_P(SequenceTest, LogitsDoNotDependOnPieces) {
  const torch::InferenceMode inference;
  const GoldenModel golden = open_golden_model(GetParam());
  const auto model = load_model(*golden.checkpoint);
  const std::vector<int64_t> ids = to_list(golden.ids), positions = consecutive_positions(0, 512);
  for (const int64_t piece : {512, 100, 1}) {
    SCOPED_TRACE(piece);
    const auto n = static_cast<size_t>(piece == 1 ? 65 : 512);
    Sequence sequence(*model, full_attention(*model, 16));  // grows on the way
    std::vector<Tensor> rows;
    int64_t expected_first = 0;
    sequence.advance(std::span(ids).first(n),
                     std::span(positions).first(n),
                     piece,
                     [&](int64_t first, const Tensor& hidden) {
                       EXPECT_EQ(first, expected_first);
                       EXPECT_LE(hidden.size(0), piece);
                       expected_first += hidden.size(0);
                       rows.push_back(model->logits(hidden));
                     });
    EXPECT_EQ(sequence.length(), static_cast<int64_t>(n));
    const Tensor known = golden.rows.masked_select(golden.rows < static_cast<int64_t>(n));
    EXPECT_TRUE(all_close(
        torch::cat(rows).index_select(0, known), golden.logits.narrow(0, 0, known.size(0)), 1e-4));
  }
}

TEST_P(SequenceTest, LastLogitsAreTheLastRowAsFloat32) {
  const GoldenModel golden = open_golden_model(GetParam());
  const auto model = load_model(*golden.checkpoint, {.dtype = torch::kFloat64});
  const std::vector<int64_t> ids = to_list(golden.ids), positions = consecutive_positions(0, 512);
  Sequence sequence(*model, full_attention(*model, 512));
  std::vector<int64_t> reports;
  const Tensor last = sequence.last_logits(ids, positions, 200, [&](int64_t done, int64_t total) {
    EXPECT_EQ(total, 512);
    reports.push_back(done);
  });
  EXPECT_EQ(last.scalar_type(), torch::kFloat32);
  EXPECT_TRUE(all_close(last, golden.logits[-1], 1e-4));
  EXPECT_EQ(reports, std::vector<int64_t>({200, 400, 512}));
}

TEST_P(SequenceTest, RewindsToGoOnInAnotherWay) {
  const GoldenModel golden = open_golden_model(GetParam());
  const auto model = load_model(*golden.checkpoint);
  const std::vector<int64_t> ids = to_list(golden.ids), positions = consecutive_positions(0, 512);
  const std::span<const int64_t> all(ids), places(positions);
  Sequence sequence(*model, full_attention(*model, 8));
  sequence.advance(all.last(112), places.first(112), 512, {});  // shares nothing with the prompt
  sequence.rewind(0);
  sequence.advance(all.first(100), places.first(100), 512, {});
  sequence.advance(all.first(30), places.subspan(100, 30), 512, {});
  sequence.rewind(100);
  EXPECT_EQ(sequence.length(), 100);
  sequence.rewind(200);  // nothing to forget
  EXPECT_EQ(sequence.length(), 100);
  const Tensor last = sequence.last_logits(all.subspan(100, 29), places.subspan(100, 29), 512);
  EXPECT_TRUE(all_close(last, golden.logits[8], 1e-4));  // token 128
}

INSTANTIATE_TEST_SUITE_P(,
                         SequenceTest,
                         ::testing::Values("llama-gqa3-tied-llama3", "llama-nsa"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

/// Ends a pass at every multiple of 4 and notes what it was told.
class Fours : public SequenceAttention {
 public:
  int64_t pass_limit(int64_t first, int64_t wanted) const override {
    return std::min(wanted, 4 - first % 4);
  }
  void begin_pass(int64_t first, std::span<const int64_t> ids) override {
    passes.push_back({first, {ids.begin(), ids.end()}});
  }
  void rewind(int64_t) override {}
  Tensor attend(int64_t, const AttentionInput& in) override { return in.q; }

  std::vector<std::pair<int64_t, std::vector<int64_t>>> passes;  // first index, ids
};

TEST(Sequence, PassesEndWhereTheAttentionSaysSo) {
  ScriptedModel model("");
  auto owned = std::make_unique<Fours>();
  const Fours& attention = *owned;
  Sequence sequence(model, std::move(owned));
  const auto ids = consecutive_positions(100, 11), positions = consecutive_positions(0, 11);
  sequence.advance(std::span(ids).first(6), std::span(positions).first(6), 3, {});
  sequence.advance(std::span(ids).last(5), std::span(positions).last(5), 100, {});
  const decltype(attention.passes) expected = {
      {0, {100, 101, 102}}, {3, {103}}, {4, {104, 105}}, {6, {106, 107}}, {8, {108, 109, 110}}};
  EXPECT_EQ(attention.passes, expected);
}

TEST(Sequence, IdsOutsideTheVocabularyAreAnError) {
  ScriptedModel model("");
  for (const int64_t id : {int64_t{-1}, int64_t{257}, int64_t{1} << 40}) {
    Sequence sequence(model, std::make_unique<Fours>());
    const std::vector<int64_t> ids = {1, id}, positions = {0, 1};
    expect_error([&] { sequence.advance(ids, positions, 8, {}); },
                 concat("token id ", id, " is outside the vocabulary of 257"));
    EXPECT_EQ(sequence.length(), 0);
  }
}

TEST(ConsecutivePositions, Count) {
  EXPECT_EQ(consecutive_positions(3, 4), std::vector<int64_t>({3, 4, 5, 6}));
  EXPECT_TRUE(consecutive_positions(3, 0).empty());
}

}  // namespace
}  // namespace ssa
