#include "data/row_plan.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "data/qa_fit.h"

namespace ssa {
namespace {

struct PlanCase {
  const char* name;
  std::vector<uint64_t> lengths;
  RowShape shape;
};

class RowPlanTest : public ::testing::TestWithParam<PlanCase> {
 protected:
  RowPlan plan() const {
    const std::vector<uint64_t>& lengths = GetParam().lengths;
    return {lengths.size(), [&](uint64_t entry) { return lengths[entry]; }, GetParam().shape, 4};
  }
};

TEST_P(RowPlanTest, EveryTokenStandsInExactlyOneRow) {
  const RowPlan rows = plan();
  std::map<uint64_t, std::vector<int>> seen;
  for (size_t i = 0; i < GetParam().lengths.size(); ++i) {
    seen[i].resize(GetParam().lengths[i]);
  }
  for (uint64_t row = 0; row < rows.n_rows(); ++row) {
    const std::vector<EntryPart> parts = rows.parts(row);
    EXPECT_FALSE(parts.empty());
    for (const EntryPart& part : parts) {
      for (uint64_t i = part.begin; i < part.end; ++i) {
        ++seen.at(part.entry).at(i);
      }
    }
  }
  for (const auto& [entry, counts] : seen) {
    EXPECT_EQ(counts, std::vector<int>(counts.size(), 1)) << "entry " << entry;
  }
}

TEST_P(RowPlanTest, RowsKeepToTheirRoom) {
  const RowPlan rows = plan();
  const RowShape& shape = GetParam().shape;
  for (uint64_t row = 0; row < rows.n_rows(); ++row) {
    uint64_t n_used = 0;
    for (const EntryPart& part : rows.parts(row)) {
      EXPECT_GT(part.size(), 0U);
      EXPECT_TRUE(shape.cut || part.size() == GetParam().lengths[part.entry]);
      n_used += part.size() + shape.overhead;
    }
    EXPECT_LE(n_used, shape.room);
  }
}

std::vector<uint64_t> awkward_lengths() {
  std::vector<uint64_t> lengths = {0, 1, 15, 16, 17, 0, 160, 33, 48, 2, 0};
  for (uint64_t i = 0; i < 50; ++i) {
    lengths.push_back(i * 7 % 23);
  }
  return lengths;
}

INSTANTIATE_TEST_SUITE_P(
    Shapes,
    RowPlanTest,
    ::testing::Values(
        PlanCase{"separate", awkward_lengths(), {.room = 16, .min_part = 4}},
        PlanCase{"bos", awkward_lengths(), {.room = 16, .overhead = 1, .min_part = 4}},
        PlanCase{"joined", awkward_lengths(), {.room = 16, .whole_rows_first = false}},
        PlanCase{"whole_entries",
                 {5, 16, 9, 9, 0, 1, 3, 3, 3, 16, 2},
                 {.room = 16, .cut = false, .whole_rows_first = false}},
        PlanCase{"one_token", {1}, {.room = 16}},
        PlanCase{"nothing", {0, 0}, {.room = 16}}),
    [](const auto& shape) { return shape.param.name; });

/// Joined rows are full but for the last.
TEST(RowPlan, JoinedRowsAreFull) {
  const std::vector<uint64_t> lengths = awkward_lengths();
  const RowPlan plan(
      lengths.size(),
      [&](uint64_t entry) { return lengths[entry]; },
      {.room = 16, .whole_rows_first = false},
      1);
  for (uint64_t row = 0; row + 1 < plan.n_rows(); ++row) {
    uint64_t n_tokens = 0;
    for (const EntryPart& part : plan.parts(row)) {
      n_tokens += part.size();
    }
    EXPECT_EQ(n_tokens, 16U);
  }
}

TEST(RowPlan, LongEntriesFillRowsFromTheirStart) {
  const RowPlan plan(
      1, [](uint64_t) { return 40; }, {.room = 16}, 1);
  ASSERT_EQ(plan.n_rows(), 3U);
  EXPECT_EQ(plan.parts(0), (std::vector<EntryPart>{{0, 0, 16}}));
  EXPECT_EQ(plan.parts(1), (std::vector<EntryPart>{{0, 16, 32}}));
  EXPECT_EQ(plan.parts(2), (std::vector<EntryPart>{{0, 32, 40}}));
}

TEST(RowPlan, RestsMayBeLeftOut) {
  const std::vector<uint64_t> lengths = {25, 7, 10};
  const RowPlan rows(
      lengths.size(),
      [&](uint64_t entry) { return lengths[entry]; },
      {.room = 10, .packs_rest = false},
      1);
  ASSERT_EQ(rows.n_rows(), 3U);
  EXPECT_EQ(rows.parts(0), (std::vector<EntryPart>{{0, 0, 10}}));
  EXPECT_EQ(rows.parts(1), (std::vector<EntryPart>{{0, 10, 20}}));
  EXPECT_EQ(rows.parts(2), (std::vector<EntryPart>{{2, 0, 10}}));
}

TEST(QaFit, LosesDocumentsFromTheEndGoldLast) {
  const QaLengths lengths{{10, 20, 30, 40}, {false, false, false, true}, 5, 1};
  struct Case {
    uint64_t room;
    std::vector<bool> kept;
    uint64_t n_tokens;
  };
  const Case cases[] = {{106, {true, true, true, true}, 106},
                        {105, {true, true, false, true}, 76},
                        {56, {true, false, false, true}, 56},
                        {55, {false, false, false, true}, 46},
                        {45, {false, false, false, false}, 0}};
  for (const Case& c : cases) {
    const QaFit fit = fit_qa_row(lengths, c.room);
    EXPECT_EQ(fit.kept, c.kept) << c.room;
    EXPECT_EQ(fit.n_tokens, c.n_tokens) << c.room;
  }
  EXPECT_FALSE(fit_qa_row(lengths, 5).is_usable());
}

}  // namespace
}  // namespace ssa
