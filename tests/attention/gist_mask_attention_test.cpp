// The gist mask in parts, with gradients, against the dense mask.
#include "attention/gist_mask_attention.h"

#include "attention/gist_mask_batch.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <random>

#include "attention/attention.h"
#include "gist/interleave.h"

namespace ssa {
namespace {

struct LayoutCase {
  ChunkSizes chunk;
  int64_t sink, previous_chunks, n_prefix, n_suffix;
  bool uneven;  // chunks of random length, as between words
};

GistLayout lay(const LayoutCase& c, std::mt19937& random) {
  GistLayout layout(c.chunk, {100, 101, 102});
  std::vector<int64_t> open(c.chunk.size(), 0);
  int64_t in_chunk = -c.sink;
  int64_t limit = c.chunk[0];
  for (int64_t i = 0; i < c.n_prefix; ++i) {
    layout.append_raw(i);
    const bool last = i + 1 == c.n_prefix;
    if (++in_chunk < limit && !last) {
      continue;
    }
    in_chunk = 0;
    limit = c.chunk[0] + (c.uneven ? static_cast<int64_t>(random() % (c.chunk[0] / 2 + 1)) : 0);
    for (size_t level = 0; level < c.chunk.size(); ++level) {
      layout.append_gist(static_cast<int>(level));
      const bool closes =
          level + 1 < c.chunk.size() && (last || ++open[level] == c.chunk[level + 1]);
      if (!closes) {
        break;
      }
      open[level] = 0;
    }
  }
  for (int64_t i = 0; i < c.n_suffix; ++i) {
    layout.append_raw(i);
  }
  return layout;
}

Tensor dense_reference(const Tensor& q,
                       const Tensor& k,
                       const Tensor& v,
                       const GistLayout& layout,
                       const MaskRule& rule,
                       double scale) {
  const std::vector<uint8_t> visible = dense_mask(layout, rule);
  const int64_t n = layout.n_tokens(), n_sequences = q.size(0) / n, group = q.size(1) / k.size(1);
  const Tensor mask = torch::tensor(visible, torch::kUInt8).view({n, n}).to(torch::kBool);
  std::vector<Tensor> outputs;
  for (int64_t i = 0; i < n_sequences; ++i) {
    const auto heads = [&](const Tensor& x, int64_t times) {
      return x.slice(0, i * n, (i + 1) * n).transpose(0, 1).repeat_interleave(times, 0);
    };
    const Tensor scores = (torch::matmul(heads(q, 1), heads(k, group).transpose(1, 2)) * scale)
                              .masked_fill(mask.logical_not(), -INFINITY);
    outputs.push_back(torch::matmul(scores.softmax(-1), heads(v, group)).transpose(0, 1));
  }
  return torch::cat(outputs);
}

class GistMaskAttention : public testing::TestWithParam<LayoutCase> {};

TEST_P(GistMaskAttention, EqualsTheDenseMaskWithItsGradients) {
  std::mt19937 random(7);
  torch::manual_seed(3);
  const GistLayout layout = lay(GetParam(), random);
  const MaskRule rule{GetParam().sink, GetParam().previous_chunks};
  const GistMaskPlanPtr plan = plan_gist_mask(layout, rule);
  const auto options = torch::TensorOptions(torch::kFloat64).requires_grad(true);
  const int64_t n = 2 * layout.n_tokens();
  const Tensor q = torch::randn({n, 6, 8}, options), k = torch::randn({n, 2, 8}, options),
               v = torch::randn({n, 2, 8}, options);
  const Tensor weights = torch::randn({n, 6, 8}, torch::kFloat64);
  const Tensor out = gist_mask_attention(q, k, v, plan, 0.4),
               expected = dense_reference(q, k, v, layout, rule, 0.4);
  EXPECT_LT((out - expected).abs().max().item<double>(), 1e-12);
  const auto gradients = torch::autograd::grad({(out * weights).sum()}, {q, k, v});
  const auto wanted = torch::autograd::grad({(expected * weights).sum()}, {q, k, v});
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_LT((gradients[i] - wanted[i]).abs().max().item<double>(), 1e-11) << "of input " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts,
                         GistMaskAttention,
                         testing::Values(LayoutCase{{4}, 3, 1, 150, 20, false},
                                         LayoutCase{{4}, 3, 1, 150, 20, true},
                                         LayoutCase{{8}, 0, 2, 400, 0, true},
                                         LayoutCase{{8}, 3, 0, 200, 7, false},
                                         LayoutCase{{1}, 3, 1, 40, 5, false},
                                         LayoutCase{{2, 2}, 1, 1, 120, 9, false},
                                         LayoutCase{{4, 4}, 3, 1, 500, 30, true},
                                         LayoutCase{{8, 4}, 3, 2, 300, 10, true},
                                         LayoutCase{{2, 2, 3}, 3, 1, 200, 12, true},
                                         LayoutCase{{16}, 3, 1, 5, 40, false},
                                         LayoutCase{{8}, 3, 1, 0, 33, false},
                                         LayoutCase{{3, 2}, 0, 0, 100, 8, true}));

class GistMaskBatches : public testing::TestWithParam<MaskRule> {};

TEST_P(GistMaskBatches, DifferentLayoutsAtOnceEqualEachAlone) {
  std::mt19937 random(11);
  torch::manual_seed(5);
  const MaskRule rule = GetParam();
  const std::vector<GistLayout> layouts = {lay({{4}, 3, 1, 150, 20, true}, random),
                                           lay({{4}, 3, 1, 40, 60, false}, random),
                                           lay({{4}, 3, 1, 0, 17, false}, random),
                                           lay({{8}, 3, 1, 90, 0, true}, random),
                                           lay({{4}, 3, 1, 5, 4, false}, random),
                                           lay({{4, 4}, 3, 1, 200, 12, true}, random),
                                           lay({{2, 2}, 3, 1, 61, 5, false}, random),
                                           lay({{2, 2, 3}, 3, 1, 120, 0, true}, random)};
  std::vector<LaidSequences> laid;
  for (const GistLayout& layout : layouts) {
    laid.push_back({&layout, 1});
  }
  laid[1].n_sequences = 2;
  const GistMaskBatchPtr batch = plan_gist_mask_batch(laid, rule);
  ASSERT_TRUE(batch);
  EXPECT_TRUE(batch->window_begin.diff().ge(0).all().item<bool>()) << "kernels rely on it";
  const int64_t n = batch->n_tokens;
  const auto options = torch::TensorOptions(torch::kFloat64).requires_grad(true);
  const Tensor q = torch::randn({n, 6, 8}, options), k = torch::randn({n, 2, 8}, options),
               v = torch::randn({n, 2, 8}, options);
  const Tensor weights = torch::randn({n, 6, 8}, torch::kFloat64);
  std::vector<Tensor> outputs;
  int64_t first = 0;
  for (const LaidSequences& each : laid) {
    const int64_t rows = each.n_sequences * each.layout->n_tokens();
    outputs.push_back(dense_reference(q.narrow(0, first, rows),
                                      k.narrow(0, first, rows),
                                      v.narrow(0, first, rows),
                                      *each.layout,
                                      rule,
                                      0.4));
    first += rows;
  }
  const Tensor expected = torch::cat(outputs), out = gist_mask_attention(q, k, v, batch, 0.4);
  EXPECT_LT((out - expected).abs().max().item<double>(), 1e-12);
  const auto gradients = torch::autograd::grad({(out * weights).sum()}, {q, k, v});
  const auto wanted = torch::autograd::grad({(expected * weights).sum()}, {q, k, v});
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_LT((gradients[i] - wanted[i]).abs().max().item<double>(), 1e-11) << "of input " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Rules,
                         GistMaskBatches,
                         testing::Values(MaskRule{3, 1}, MaskRule{0, 2}, MaskRule{1, 0}));

TEST(GistMaskAttention, SinglePrecisionAgreesToRounding) {
  std::mt19937 random(5);
  const GistLayout layout = lay({{8}, 3, 1, 300, 40, true}, random);
  const GistMaskPlanPtr plan = plan_gist_mask(layout, {});
  const Tensor q = torch::randn({layout.n_tokens(), 6, 16}),
               k = torch::randn({layout.n_tokens(), 2, 16}), v = torch::randn_like(k);
  const Tensor exact = dense_reference(
      q.to(torch::kFloat64), k.to(torch::kFloat64), v.to(torch::kFloat64), layout, {}, 0.25);
  EXPECT_LT((gist_mask_attention(q, k, v, plan, 0.25) - exact).abs().max().item<double>(), 2e-6);
  const auto half = [](const Tensor& x) { return x.to(torch::kBFloat16); };
  const Tensor rough =
      gist_mask_attention(half(q), half(k), half(v), plan, 0.25).to(torch::kFloat64);
  EXPECT_LT(((rough - exact).norm() / exact.norm()).item<double>(), 1e-2);
}

}  // namespace
}  // namespace ssa
