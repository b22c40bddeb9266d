// Outputs and gradients of block-sparse attention against dense attention under the reference's
// mask.
#include "attention/block_sparse_attention.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>
#include <torch/cuda.h>
#include <torch/utils.h>

#include "attention/nsa_branches.h"
#include "base/error.h"
#include "selection/block_selection.h"
#include "support/expect_error.h"

namespace ssa {
namespace {

struct Case {
  const char* name;
  int64_t n_sequences, n, n_heads, n_kv_heads;
  BlockOptions blocks;

  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};

const Case kCases[] = {
    {"one_head", 1, 64, 1, 1, {8, 3}},
    {"groups", 2, 61, 6, 2, {8, 3}},
    {"own_block_alone", 1, 37, 4, 2, {4, 1}},
    {"more_blocks_than_there_are", 3, 20, 4, 4, {4, 9}},
    {"blocks_of_one", 1, 33, 2, 1, {1, 5}},
    {"shorter_than_a_block", 2, 5, 4, 2, {16, 16}},
    {"several_pieces", 1, 700, 4, 2, {16, 5}},
    {"odd_blocks", 1, 300, 2, 1, {7, 4}},
    {"published_halves", 1, 150, 4, 2, {4, 4, BlockRule::kPublished}},
    {"published_few", 1, 90, 4, 2, {8, 3, BlockRule::kPublished}},
};

BlockSparseInput random_input(const Case& c, torch::ScalarType dtype, uint64_t seed = 1) {
  torch::manual_seed(seed);
  const auto tensor = [&](int64_t heads) {
    return torch::randn({c.n_sequences * c.n, heads, 8}, torch::kFloat64)
        .to(dtype)
        .requires_grad_(true);
  };
  const Tensor q = tensor(c.n_heads), k = tensor(c.n_kv_heads), v = tensor(c.n_kv_heads);
  return {q, k, v, c.n_sequences, 0.7};
}

/// Attention of each sequence by itself under masks of [n_kv_heads or 1, n, n], as plain products.
template <class MaskFn>
Tensor dense(const BlockSparseInput& in, const MaskFn& mask_of) {
  const int64_t n = in.q.size(0) / in.n_sequences, group = in.q.size(1) / in.k.size(1);
  std::vector<Tensor> outputs;
  for (int64_t i = 0; i < in.n_sequences; ++i) {
    const auto rows = [&](const Tensor& x) { return x.narrow(0, i * n, n); };
    const auto heads = [&](const Tensor& x) {
      return rows(x).transpose(0, 1).repeat_interleave(in.q.size(1) / x.size(1), 0);
    };
    const Tensor mask = mask_of(rows(in.q), rows(in.k));
    const Tensor visible = mask.size(0) == 1 ? mask : mask.repeat_interleave(group, 0);
    const Tensor scores = torch::matmul(heads(in.q), heads(in.k).transpose(1, 2)) * in.scale;
    const Tensor weights =
        scores.masked_fill(visible.logical_not(), -INFINITY).softmax(-1).nan_to_num(0.0);
    outputs.push_back(torch::matmul(weights, heads(in.v)).transpose(0, 1));
  }
  return torch::cat(outputs);
}

Tensor causal_mask(int64_t n) {
  return torch::ones({1, n, n}, torch::kBool).tril();
}

Tensor dense_full(const BlockSparseInput& in) {
  return dense(in, [](const Tensor& q, const Tensor&) { return causal_mask(q.size(0)); });
}

Tensor dense_sparse(const BlockSparseInput& in, const BlockOptions& blocks) {
  return dense(in, [&](const Tensor& q, const Tensor& k) {
    const Tensor means = block_means(k.detach().transpose(0, 1).contiguous(), blocks.block_size);
    const Tensor chosen = select_blocks(q.detach(), means, 0, in.scale, blocks);
    return block_mask(chosen, 0, k.size(0), blocks.block_size);
  });
}

/// Gradients of sum(out * weights) with weights that tell every number apart.
std::vector<Tensor> gradients_of(const BlockSparseInput& in, const std::vector<Tensor>& outputs) {
  Tensor sum;
  for (const Tensor& out : outputs) {
    torch::manual_seed(7 + static_cast<uint64_t>(sum.defined()));
    const Tensor part = (out * torch::randn(out.sizes(), torch::kFloat64).to(out.dtype())).sum();
    sum = sum.defined() ? sum + part : part;
  }
  return torch::autograd::grad({sum}, {in.q, in.k, in.v});
}

double distance(const Tensor& a, const Tensor& b) {
  return (a.to(torch::kFloat64) - b.to(torch::kFloat64)).abs().max().item<double>();
}

class BlockSparse : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { torch::set_num_threads(1); }  // such small matrices are quicker on one
};

TEST_P(BlockSparse, IsDenseAttentionOverTheChosenBlocks) {
  const Case& c = GetParam();
  const BlockSparseInput in = random_input(c, torch::kFloat64);
  const BlockSparseOutput out = block_sparse_attention(in, c.blocks);
  const Tensor full = dense_full(in), sparse = dense_sparse(in, c.blocks);
  EXPECT_LT(distance(out.full, full), 1e-12);
  EXPECT_LT(distance(out.sparse, sparse), 1e-12);
  const std::vector<Tensor> found = gradients_of(in, {out.full, out.sparse}),
                            wanted = gradients_of(in, {full, sparse});
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_LT(distance(found[i], wanted[i]), 1e-11) << "qkv"[i];
  }
}

TEST_P(BlockSparse, EachStreamAloneIsTheSame) {
  const Case& c = GetParam();
  const BlockSparseInput in = random_input(c, torch::kFloat64);
  const BlockSparseOutput both = block_sparse_attention(in, c.blocks);
  const BlockSparseOutput full = block_sparse_attention(in, c.blocks, {true, false}),
                          sparse = block_sparse_attention(in, c.blocks, {false, true});
  EXPECT_FALSE(full.sparse.defined() || sparse.full.defined() || sparse.kept.defined());
  EXPECT_EQ(distance(full.full, both.full), 0);
  EXPECT_EQ(distance(sparse.sparse, both.sparse), 0);
  const std::vector<Tensor> alone = gradients_of(in, {sparse.sparse}),
                            wanted = gradients_of(in, {both.sparse});
  for (size_t i = 0; i < alone.size(); ++i) {
    EXPECT_LT(distance(alone[i], wanted[i]), 1e-13);
  }
}

TEST_P(BlockSparse, KeptIsTheMassInsideTheBlocks) {
  const Case& c = GetParam();
  const BlockSparseInput in = random_input(c, torch::kFloat64);
  const Tensor kept = block_sparse_attention(in, c.blocks).kept;
  // The mass is what ones come to under full weights where only chosen keys have them.
  const int64_t group = c.n_heads / c.n_kv_heads;
  for (int64_t i = 0; i < c.n_sequences; ++i) {
    const auto rows = [&](const Tensor& x) { return x.detach().narrow(0, i * c.n, c.n); };
    const Tensor k = rows(in.k).transpose(0, 1).contiguous();
    const Tensor chosen =
        select_blocks(rows(in.q), block_means(k, c.blocks.block_size), 0, in.scale, c.blocks);
    const Tensor mask = block_mask(chosen, 0, c.n, c.blocks.block_size).repeat_interleave(group, 0);
    const Tensor weights =
        (torch::matmul(rows(in.q).transpose(0, 1), k.repeat_interleave(group, 0).transpose(1, 2)) *
         in.scale)
            .masked_fill(causal_mask(c.n).logical_not(), -INFINITY)
            .softmax(-1);
    EXPECT_LT(distance(kept.narrow(0, i * c.n, c.n).transpose(0, 1), (weights * mask).sum(-1)),
              1e-12);
  }
}

TEST_P(BlockSparse, HalfAndSinglePrecisionAreClose) {
  const Case& c = GetParam();
  for (const auto& [dtype, bound] : {std::pair{torch::kFloat32, 2e-5}, {torch::kBFloat16, 0.06}}) {
    BlockSparseInput in = random_input(c, dtype);
    const BlockSparseOutput out = block_sparse_attention(in, c.blocks);
    EXPECT_EQ(out.sparse.scalar_type(), dtype);
    const BlockSparseInput wide{in.q.to(torch::kFloat64),
                                in.k.to(torch::kFloat64),
                                in.v.to(torch::kFloat64),
                                c.n_sequences,
                                in.scale};
    EXPECT_LT(distance(out.full, dense_full(wide)), bound);
    if (dtype == torch::kFloat32) {  // means in bf16 may choose other blocks
      EXPECT_LT(distance(out.sparse, dense_sparse(wide, c.blocks)), bound);
    }
    for (const Tensor& gradient : gradients_of(in, {out.full, out.sparse})) {
      EXPECT_TRUE(gradient.isfinite().all().item<bool>());
    }
  }
}

/// Gradients against differences, the choice held where it is: steps are too small to change it.
TEST_P(BlockSparse, GradientsAreThoseOfDifferences) {
  const Case& c = GetParam();
  const BlockSparseInput in = random_input(c, torch::kFloat64, 5);
  const Tensor weights = torch::randn(in.q.sizes(), torch::kFloat64);
  const auto loss = [&] {
    return (block_sparse_attention(in, c.blocks, {false, true}).sparse * weights).sum();
  };
  const std::vector<Tensor> gradients = torch::autograd::grad({loss()}, {in.q, in.k, in.v});
  const torch::NoGradGuard no_grad;
  size_t which = 0;
  for (const Tensor& x : {in.q, in.k, in.v}) {
    const Tensor& gradient = gradients[which++];
    for (const int64_t entry : {int64_t{3}, x.numel() / 2 + 1, x.numel() - 2}) {
      double* number = x.data_ptr<double>() + entry;
      const double kept = *number, step = 1e-5;
      *number = kept + step;
      const double above = loss().item<double>();
      *number = kept - step;
      const double below = loss().item<double>();
      *number = kept;
      EXPECT_NEAR(gradient.flatten()[entry].item<double>(), (above - below) / (2 * step), 1e-6);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, BlockSparse, testing::ValuesIn(kCases), [](const auto& c) {
  return std::string(c.param.name);
});

TEST(BlockSparseAttention, ABudgetThatCoversEverythingIsFullAttention) {
  const Case c{"", 2, 100, 4, 2, {8, 13}};
  const BlockSparseInput in = random_input(c, torch::kFloat64);
  const BlockSparseOutput out = block_sparse_attention(in, c.blocks);
  EXPECT_LT(distance(out.full, out.sparse), 1e-13);
  EXPECT_LT((out.kept - 1).abs().max().item<double>(), 1e-13);
}

/// |full - sparse| <= dropped * (max |v| of dropped keys + |sparse|) (arXiv 2511.20102, theorem 1),
/// with the weaker maximum over all keys up to the query.
TEST(BlockSparseAttention, KeepsTheBoundOnTenThousandQueries) {
  const torch::NoGradGuard no_grad;
  int64_t n_queries = 0;
  for (uint64_t seed = 0; n_queries < 10000; ++seed) {
    const Case c{"", 1, 400, 4, 2, {8, static_cast<int64_t>(1 + seed % 5)}};
    BlockSparseInput in = random_input(c, torch::kFloat64, seed);
    in.scale = 0.2 + 0.4 * static_cast<double>(seed);
    const BlockSparseOutput out = block_sparse_attention(in, c.blocks);
    const Tensor dropped = 1 - out.kept;
    const Tensor largest = std::get<0>(in.v.norm(2, -1).cummax(0)).repeat_interleave(2, 1);
    const Tensor bound = dropped * (largest + out.sparse.norm(2, -1));
    const Tensor excess = (out.full - out.sparse).norm(2, -1) - bound;
    EXPECT_LT(excess.max().item<double>(), 1e-12);
    n_queries += excess.numel();
  }
}

/// The same numbers on the CPU and on the device, bf16, on a grid that keeps means and scores
/// exact, so that both choose the same blocks and differ by their kernels' rounding alone.
struct OnBoth {
  OnBoth(int64_t n_rows, int64_t heads) {
    const Tensor x = torch::randint(-8, 9, {n_rows, heads, 64}).div(8).to(torch::kBFloat16);
    cpu = x.clone().requires_grad_(true);
    cuda = x.to(torch::kCUDA).detach().requires_grad_(true);
  }
  Tensor cpu, cuda;
};

double apart(const Tensor& a, const Tensor& b) {
  const Tensor wide = a.to(torch::kFloat64);
  return ((wide - b.to(torch::kCPU, torch::kFloat64)).norm() / wide.norm()).item<double>();
}

/// Two sequences of n tokens each through fn, which gives outputs [2 * n, 8, 64]; and gradients.
template <class Fn>
void expect_cuda_gives_what_the_cpu_gives(int64_t n, const Fn& fn) {
  SCOPED_TRACE(n);
  torch::manual_seed(3);
  const OnBoth q(2 * n, 8), k(2 * n, 2), v(2 * n, 2);
  const BlockSparseInput cpu{q.cpu, k.cpu, v.cpu, 2, 0.125}, cuda{q.cuda, k.cuda, v.cuda, 2, 0.125};
  const Tensor wanted = fn(cpu), found = fn(cuda);
  EXPECT_LT(apart(wanted, found), 0.05);
  const Tensor weights = torch::randn(wanted.sizes()).to(torch::kBFloat16);
  const auto gradients = [&](const BlockSparseInput& in, const Tensor& out) {
    return torch::autograd::grad({(out * weights.to(out.device())).sum()}, {in.q, in.k, in.v});
  };
  const auto a = gradients(cpu, wanted), b = gradients(cuda, found);
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_LT(apart(a[i], b[i]), 0.06) << "qkv"[i];
  }
}

// Memory-efficient attention, and cuDNN in pieces.
constexpr int64_t kCudaLengths[] = {300, 1500, 2100};

TEST(BlockSparseAttention, CudaGivesWhatTheCpuGives) {
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const int64_t n : kCudaLengths) {
    expect_cuda_gives_what_the_cpu_gives(n, [](const BlockSparseInput& in) {
      const BlockSparseOutput out = block_sparse_attention(in, {});
      return out.full - 2 * out.sparse;
    });
    expect_cuda_gives_what_the_cpu_gives(n, [](const BlockSparseInput& in) {
      return block_sparse_attention(in, {}, {false, true}).sparse;
    });
  }
}

TEST(NsaBranches, CudaGivesWhatTheCpuGives) {
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const int64_t n : kCudaLengths) {
    expect_cuda_gives_what_the_cpu_gives(
        n, [](const BlockSparseInput& in) { return compressed_attention(in, 16); });
    expect_cuda_gives_what_the_cpu_gives(
        n, [](const BlockSparseInput& in) { return window_attention(in, 128); });
  }
}

TEST(BlockSparseAttention, RefusesWhatCannotBe) {
  const BlockSparseInput in = random_input({"", 1, 8, 2, 1, {}}, torch::kFloat32);
  expect_error([&] { block_sparse_attention(in, {0, 4}); }, "block size 0");
  expect_error([&] { block_sparse_attention(in, {4, 0}); }, "number of blocks 0");
}

TEST(NsaBranches, CompressedAttendsMeansOfCompleteBlocks) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const BlockSparseInput in = random_input(c, torch::kFloat64);
    const Tensor out = compressed_attention(in, c.blocks.block_size);
    const int64_t group = c.n_heads / c.n_kv_heads, size = c.blocks.block_size;
    for (const int64_t t : {int64_t{0}, size - 1, size, c.n - 1}) {
      for (int64_t head = 0; t < c.n && head < c.n_heads; ++head) {
        const int64_t n_blocks = (t + 1) / size, row = (c.n_sequences - 1) * c.n;
        Tensor expected = torch::zeros({8}, torch::kFloat64);
        if (n_blocks > 0) {
          const auto means = [&](const Tensor& x) {
            return x.select(1, head / group)
                .narrow(0, row, n_blocks * size)
                .unflatten(0, {n_blocks, size})
                .mean(1);
          };
          const Tensor scores = torch::matmul(means(in.k), in.q[row + t][head]) * in.scale;
          expected = torch::matmul(scores.softmax(0), means(in.v));
        }
        EXPECT_LT(distance(out[row + t][head], expected), 1e-12) << t << " " << head;
      }
    }
    if (c.n >= size) {
      for (const Tensor& gradient : gradients_of(in, {out})) {
        EXPECT_TRUE(gradient.isfinite().all().item<bool>());
      }
    }
  }
}

TEST(NsaBranches, WindowAttendsTheLastTokens) {
  for (const Case& c : kCases) {
    for (const int64_t window : {1, 6, 64}) {
      SCOPED_TRACE(std::string(c.name) + " " + std::to_string(window));
      const BlockSparseInput in = random_input(c, torch::kFloat64);
      const Tensor wanted = dense(in, [&](const Tensor& q, const Tensor&) {
        const Tensor causal = causal_mask(q.size(0));
        return causal.logical_and(causal.tril(-window).logical_not());
      });
      const Tensor out = window_attention(in, window);
      EXPECT_LT(distance(out, wanted), 1e-12);
      const std::vector<Tensor> found = gradients_of(in, {out}),
                                expected = gradients_of(in, {wanted});
      for (size_t i = 0; i < found.size(); ++i) {
        EXPECT_LT(distance(found[i], expected[i]), 1e-11);
      }
    }
  }
}

}  // namespace
}  // namespace ssa
