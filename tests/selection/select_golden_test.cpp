// Selection against tests/golden/gist/selection.json, made by the independent reference
// (tools/reference/make_golden.py describes the fields).
#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "selection/select.h"

namespace ssa {
namespace {

double score_of(const Json& value) {
  if (!value.is_string()) {
    return value.get<double>();
  }
  const auto& text = value.get_ref<const std::string&>();
  return text == "inf" ? INFINITY : text == "-inf" ? -INFINITY : NAN;
}

GistLayout layout_of(const Json& item) {
  GistLayout layout(item["chunk"].get<ChunkSizes>(), {1000, 1001, 1002});
  for (const char level : item["levels"].get<std::string>()) {
    if (level == '.') {
      layout.append_raw(int64_t{0});
    } else {
      layout.append_gist(level - '0');
    }
  }
  return layout;
}

SelectionOptions options_of(const Json& item) {
  SelectionOptions options;
  const auto by = item["select"].get<std::string>();
  options.by = by == "group-sum"       ? SelectBy::kGroupSum
               : by == "group-max"     ? SelectBy::kGroupMax
               : by == "group-softmax" ? SelectBy::kGroupSoftmax
                                       : SelectBy::kHead;
  if (!item["ratio"].is_null()) options.ratio = item["ratio"].get<double>();
  if (!item["budget"].is_null()) options.budget = item["budget"].get<int64_t>();
  if (!item["mass"].is_null()) options.mass = item["mass"].get<double>();
  options.upper_top_k = item["upper_k"].get<int64_t>();
  return options;
}

std::vector<int64_t> expand(const Json& ranges) {
  std::vector<int64_t> all;
  for (const Json& range : ranges) {
    for (auto i = range[0].get<int64_t>(); i < range[1].get<int64_t>(); ++i) {
      all.push_back(i);
    }
  }
  return all;
}

TEST(SelectGolden, AgreesWithTheReference) {
  const Json golden =
      read_json_file(std::filesystem::path(SSA_GOLDEN_DIR) / "gist" / "selection.json");
  int64_t number = 0;
  for (const Json& item : golden["cases"]) {
    SCOPED_TRACE("case " + std::to_string(number++) + ", " + item["kind"].get<std::string>());
    const GistLayout layout = layout_of(item);
    const SelectionOptions options = options_of(item);
    const auto group_size = static_cast<int64_t>(item["scores"][0].size());
    GroupScores scores;
    std::vector<int64_t> top_k;
    for (int level = 0; level < layout.n_levels(); ++level) {
      std::vector<double>& flat = scores.emplace_back();
      for (const Json& head : item["scores"][static_cast<size_t>(level)]) {
        for (const Json& score : head) {
          flat.push_back(score_of(score));
        }
      }
      top_k.push_back(top_k_of_level(options,
                                     level,
                                     item["n_tokens"].get<int64_t>(),
                                     layout.n_gists(level),
                                     group_size,
                                     layout.chunk_sizes()));
    }
    if (!item["places"].is_null()) {
      EXPECT_EQ(top_k, item["places"].get<std::vector<int64_t>>());
    }
    const KeptGists kept = select_gists(layout, scores, group_size, top_k, options);
    EXPECT_EQ(kept, item["union"].get<KeptGists>());
    const MaskRule rule{item["sink"].get<int64_t>(), item["previous"].get<int64_t>()};
    EXPECT_EQ(attended_keys({layout, true},
                            rule,
                            kept,
                            item["query"].get<int64_t>(),
                            item["generated"].get<bool>()),
              expand(item["attended"]));
  }
  EXPECT_GE(number, 300);
}

/// Eight chunks of two tokens, no sink.
GistLayout eight_chunks() {
  GistLayout layout({2}, {1000});
  for (int chunk = 0; chunk < 8; ++chunk) {
    layout.append_raw(std::vector<int64_t>{1, 2});
    layout.append_gist(0);
  }
  return layout;
}

TEST(Select, TiesGoToTheLowerIndexAndNanTakesNoPlace) {
  const std::vector<int64_t> top_k = {3};
  const GroupScores scores = {{NAN, 1, 5, 1, NAN, 1, 1, 0}};
  EXPECT_EQ(select_gists(eight_chunks(), scores, 1, top_k, {}), (KeptGists{{1, 2, 3}}));
}

TEST(Select, FewerThanKKeepsAll) {
  const std::vector<int64_t> top_k = {100};
  const GroupScores scores = {{0, 0, 0, 0, 0, 0, 0, 0}};
  EXPECT_EQ(select_gists(eight_chunks(), scores, 1, top_k, {})[0].size(), 8U);
}

TEST(Select, BudgetsAsTheSpecificationCountsThem) {
  const std::vector<int64_t> flat = {8}, two = {4, 4};
  EXPECT_EQ(top_k_of_level({}, 0, 8192, 1000, 4, flat), 8192 / 8 / 4 / 8 + 1);
  EXPECT_EQ(top_k_of_level({}, 1, 8192, 1000, 4, two), 8192 / 16 / 4 / 4 + 1);
  EXPECT_EQ(top_k_of_level({}, 0, 8192, 20, 4, flat), 5);  // a quarter of the gists
  EXPECT_EQ(top_k_of_level({}, 0, 8192, 2, 4, flat), 1);
  EXPECT_EQ(top_k_of_level({.budget = 1024}, 0, 8192, 2, 4, flat), 32);  // no cap
  EXPECT_EQ(top_k_of_level({.budget = 1}, 0, 8192, 2, 4, flat), 1);
}

}  // namespace
}  // namespace ssa
