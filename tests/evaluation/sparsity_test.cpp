// Measures of attention against one query at a time written out, and losses against the model's
// own.
#include "evaluation/sparsity.h"

#include <gtest/gtest.h>
#include <torch/utils.h>

#include <cmath>

#include "data/lay_sequence.h"
#include "evaluation/attention_measures.h"
#include "support/expect_error.h"
#include "training/tiny_training.h"

namespace ssa {
namespace {

std::vector<int64_t> letters(int64_t n) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < n; ++i) {
    ids.push_back('a' + (i * i + 3 * i) % 26);
  }
  return ids;
}

SparsityMethod blocks_of(int64_t size, int64_t n_blocks) {
  SparsityMethod method;
  method.blocks.blocks = {size, n_blocks};
  method.blocks.variant = SparseVariant::kMoba;
  return method;
}

TEST(AttentionMeasures, AreThoseWrittenOut) {
  torch::manual_seed(1);
  const int64_t n = 40, group = 2;
  const auto random = [&](int64_t heads) { return torch::randn({n, heads, 8}, torch::kFloat64); };
  const Tensor q = random(4), k = random(2), v = random(2);
  const Tensor tokens = torch::tensor({0, 7, 22, 39}, torch::kInt64);
  const Tensor chosen = torch::rand({2, 4, n}) < 0.4;
  for (int64_t i = 0; i < 4; ++i) {  // nothing later, and always itself
    const int64_t t = tokens[i].item<int64_t>();
    chosen.select(1, i).slice(1, t + 1).fill_(false);
    chosen.select(1, i).select(1, t).fill_(true);
  }
  const Tensor found = measure_queries({q.index_select(0, tokens), tokens, k, v, chosen, 0.5});
  for (int64_t head = 0; head < 4; ++head) {
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t seen = tokens[i].item<int64_t>() + 1, kv = head / group;
      const Tensor p =
          (torch::matmul(k.select(1, kv).narrow(0, 0, seen), q[seen - 1][head]) * 0.5).softmax(0);
      const Tensor values = v.select(1, kv).narrow(0, 0, seen);
      double kept = 0, entropy = 0, largest = 0;
      Tensor sparse = torch::zeros({8}, torch::kFloat64);
      for (int64_t key = 0; key < seen; ++key) {
        const double share = p[key].item<double>();
        entropy -= share * std::log(share);
        if (chosen[kv][i][key].item<bool>()) {
          kept += share;
          sparse += p[key] * values[key];
        } else {
          largest = std::max(largest, values[key].norm().item<double>());
        }
      }
      sparse /= kept;
      const double distance = (torch::matmul(p, values) - sparse).norm().item<double>();
      const double expected[] = {
          kept, 1 - kept, entropy, distance, (1 - kept) * (largest + sparse.norm().item<double>())};
      for (int64_t m = 0; m < 5; ++m) {
        EXPECT_NEAR(found[head][i][m].item<double>(), expected[m], 1e-12) << head << " " << i;
      }
    }
  }
}

/// Theorem 1 of arXiv 2511.20102 holds for any choice of keys: good ones, bad ones, few and many.
TEST(AttentionMeasures, KeepTheBoundOnTenThousandQueries) {
  torch::set_num_threads(1);  // such small matrices are quicker on one
  LayerMeasures measures;
  const Tensor tokens = torch::arange(250, torch::kInt64);
  const Tensor later = tokens.unsqueeze(0) > tokens.unsqueeze(1);
  for (uint64_t seed = 0; measures.n_measured() < 10000; ++seed) {
    torch::manual_seed(seed);
    const Tensor q = torch::randn({250, 4, 16}), k = torch::randn({250, 2, 16}),
                 v = torch::randn({250, 2, 16}) * torch::rand({250, 2, 1}).pow(-1);
    const double share = 0.02 + 0.09 * static_cast<double>(seed);
    const Tensor chosen = (torch::rand({2, 250, 250}) < share)
                              .logical_or(torch::eye(250, torch::kBool))
                              .logical_and(later.logical_not());
    measures.add(measure_queries({q, tokens, k, v, chosen, 0.1 + 0.3 * static_cast<double>(seed)}),
                 Tensor());
  }
  EXPECT_GE(measures.n_measured(), 10000);
  EXPECT_EQ(measures.n_beyond(), 0);
  const Json mean = mean_of_layers({measures.to_json()});
  EXPECT_GT(mean["ratio"].get<double>(), 0.02);  // and it is no empty one
  EXPECT_LE(mean["ratio_max"].get<double>(), 1);
  std::printf("distance / bound: mean %.3f, largest %.3f\n",
              mean["ratio"].get<double>(),
              mean["ratio_max"].get<double>());
}

TEST(Sparsity, CountsLossesOfBothModesAndKeepsTheBound) {
  const auto model = tiny_model(5);
  const std::vector<int64_t> ids = letters(200);
  const Json found =
      measure_sparsity(*model,
                       ids,
                       blocks_of(4, 3),
                       {.length = 60, .n_windows = 9, .n_queries = 20, .budgets = {1, 3, 15}});
  EXPECT_EQ(found["n_windows"], 3);
  EXPECT_EQ(found["n_tokens"], 3 * 59);
  EXPECT_EQ(found["bound"]["measured"], 3 * 3 * 4 * 20);  // windows, layers, heads, queries
  EXPECT_EQ(found["bound"]["violated"], 0);
  EXPECT_EQ(found["layers"].size(), 3U);
  EXPECT_TRUE(found["capability_gap"].is_null());
  ASSERT_EQ(found["budgets"].size(), 3U);
  EXPECT_EQ(found["budgets"][0]["sparse_loss"], found["sparse_loss"]);
  EXPECT_NEAR(
      found["budgets"][2]["sparse_loss"].get<double>(), found["full_loss"].get<double>(), 1e-11);
  EXPECT_NEAR(found["budgets"][2]["kl_full_to_sparse"].get<double>(), 0, 1e-11);
  EXPECT_GT(found["kl_full_to_sparse"].get<double>(), 1e-4);
  EXPECT_GT(found["kl_sparse_to_full"].get<double>(), 1e-4);
  const Json& mean = found["mean"];
  EXPECT_NEAR(mean["sparsity"].get<double>() + mean["dropped"].get<double>(), 1, 1e-12);
  EXPECT_LE(mean["ratio_max"].get<double>(), 1);
  EXPECT_GT(mean["keys_without_gradient"].get<double>(), 0);
  EXPECT_LT(mean["keys_without_gradient"].get<double>(), 1);

  double nll = 0;
  for (int64_t window = 0; window < 3; ++window) {
    const Tensor window_ids = torch::tensor(ids).narrow(0, window * 60, 60);
    const TrainingRow row{
        {lay_sequence({{}, {ids.begin() + window * 60, ids.begin() + window * 60 + 60}, 1},
                      {.settings = {}, .gists = false})}};
    const Batch batch = make_batch({&row, 1}, {});
    TrainingAttention full(batch, {TrainingMode::kFull});
    const torch::NoGradGuard no_grad;
    const Tensor log_p =
        model->logits(model->forward(batch.ids, batch.positions, full)).log_softmax(-1);
    nll -= log_p.narrow(0, 0, 59)
               .gather(1, window_ids.narrow(0, 1, 59).unsqueeze(1))
               .sum()
               .item<double>();
  }
  EXPECT_NEAR(found["full_loss"].get<double>(), nll / (3 * 59), 1e-11);
}

TEST(Sparsity, TakesTheCapabilityGapFromAReference) {
  const auto model = tiny_model(5);
  const Json found =
      measure_sparsity(*model,
                       letters(60),
                       blocks_of(4, 3),
                       {.length = 60, .n_windows = 1, .n_queries = 4, .reference_loss = 1.5});
  EXPECT_NEAR(found["capability_gap"].get<double>(), found["full_loss"].get<double>() - 1.5, 1e-12);
  EXPECT_NEAR(found["attention_gap"].get<double>(),
              found["sparse_loss"].get<double>() - found["full_loss"].get<double>(),
              1e-12);
}

TEST(Sparsity, MeasuresSelectionByGists) {
  const auto model = tiny_model(5);
  SparsityMethod method;
  method.gists.emplace();
  method.gists->settings = spelled_settings({4}, kTinySink, false);
  method.gists->selection.ratio = 4;
  method.gists->suffix_tokens = 12;
  const Json found = measure_sparsity(
      *model, letters(130), method, {.length = 64, .n_windows = 2, .n_queries = 8, .budgets = {4}});
  EXPECT_EQ(found["n_tokens"], 2 * 12);
  EXPECT_EQ(found["layers"].size(), 2U);  // layer 0 does not choose
  EXPECT_EQ(found["layers"][0]["layer"], 1);
  EXPECT_EQ(found["bound"]["measured"], 2 * 2 * 4 * 8);
  EXPECT_EQ(found["bound"]["violated"], 0);
  EXPECT_TRUE(found["budgets"].empty());
  EXPECT_GT(found["mean"]["sparsity"].get<double>(), 0);
  EXPECT_LT(found["mean"]["sparsity"].get<double>(), 1);
}

TEST(Sparsity, RefusesTextsAndWindowsThatDoNotFit) {
  const auto model = tiny_model(5);
  expect_error([&] { measure_sparsity(*model, letters(10), blocks_of(4, 3), {.length = 60}); },
               "the text has 10 tokens, and a window wants 60");
  expect_error([&] { measure_sparsity(*model, letters(600), blocks_of(4, 3), {.length = 513}); },
               "windows of 513 tokens are beyond the model's 512 positions");
}

}  // namespace
}  // namespace ssa
