// Many suffixes at once against each on its own.
#include "training/suffix_unfolding.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "selection/unfold_mask.h"
#include "training/tiny_training.h"

namespace ssa {
namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kHeadDim = 8;

Tensor numbers(int64_t n_rows, int64_t n_heads, bool whole) {
  const auto options = torch::dtype(torch::kFloat64);
  const Tensor drawn = whole ? torch::randint(-2, 3, {n_rows, n_heads, kHeadDim}, options)
                             : torch::randn({n_rows, n_heads, kHeadDim}, options);
  return drawn.set_requires_grad(true);
}

/// `out` with each suffix attended under its own mask.
Tensor one_by_one(const std::vector<TrainingSequence>& sequences,
                  const MaskRule& rule,
                  const SelectionOptions& options,
                  const AttentionInput& in,
                  const Tensor& out) {
  std::vector<Tensor> rows;
  int64_t first = 0;
  for (const TrainingSequence& sequence : sequences) {
    const int64_t n = sequence.layout.n_tokens(), prefix = sequence.layout.prefix_end();
    rows.push_back(out.narrow(0, first, prefix));
    const Tensor q = in.q.narrow(0, first + prefix, n - prefix),
                 k = in.k.narrow(0, first, n).transpose(0, 1),
                 v = in.v.narrow(0, first, n).transpose(0, 1);
    const Tensor seen = unfold_mask(q.detach(), k.detach(), sequence.layout, rule, options)
                            .repeat_interleave(kHeads / kKvHeads, 0);
    const Tensor scores =
        torch::matmul(q.transpose(0, 1), k.repeat_interleave(kHeads / kKvHeads, 0).transpose(1, 2))
            .mul(in.scale)
            .masked_fill(seen.logical_not(), -INFINITY);
    rows.push_back(torch::matmul(scores.softmax(-1), v.repeat_interleave(kHeads / kKvHeads, 0))
                       .transpose(0, 1));
    first += n;
  }
  return torch::cat(rows);
}

TEST(SuffixUnfolding, AttendsAndTeachesAsEachSuffixOnItsOwn) {
  std::mt19937 random(5);
  torch::manual_seed(5);
  const MaskRule rule{.sink = kTinySink, .previous_chunks = 1};
  for (int round = 0; round < 12; ++round) {
    const bool whole = round % 3 == 0;  // many equal scores
    std::vector<TrainingSequence> sequences;
    for (const ChunkSizes& chunk : {ChunkSizes{3}, ChunkSizes{2, 3}}) {
      for (int i = 0; i < 4; ++i) {
        const auto n = static_cast<int64_t>(10 + random() % 90);
        sequences.push_back(random_sequence(
            {chunk, n, static_cast<int64_t>(1 + random() % 9), round % 2 == 1}, random));
      }
    }
    std::vector<UnfoldedSequence> unfolded;
    int64_t n_rows = 0;
    for (const TrainingSequence& sequence : sequences) {
      unfolded.push_back({&sequence.layout, n_rows});
      n_rows += sequence.layout.n_tokens();
    }
    SelectionOptions options;
    options.pivot = round % 4 == 3 ? Pivot::kMean : Pivot::kGist;
    const AttentionInput in{numbers(n_rows, kHeads, whole),
                            numbers(n_rows, kKvHeads, whole),
                            numbers(n_rows, kKvHeads, false),
                            0.35};
    const Tensor out = numbers(n_rows, kHeads, false), weights = torch::randn_like(out);
    const SuffixUnfolding unfolding(
        unfolded, rule, options, kKvHeads, kHeads / kKvHeads, torch::kCPU);
    const Tensor got = unfolding.attend(in, out),
                 wanted = one_by_one(sequences, rule, options, in, out);
    EXPECT_TRUE(torch::allclose(got, wanted, 0, 1e-12)) << "round " << round;
    const std::vector<Tensor> inputs{in.q, in.k, in.v, out};
    const auto got_gradients = torch::autograd::grad({(got * weights).sum()}, inputs),
               wanted_gradients = torch::autograd::grad({(wanted * weights).sum()}, inputs);
    for (size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_TRUE(torch::allclose(got_gradients[i], wanted_gradients[i], 0, 1e-11))
          << "round " << round << ", input " << i;
    }
  }
}

}  // namespace
}  // namespace ssa
