#include "attention/attention.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <cmath>
#include <limits>

#include "support/compare.h"

namespace ssa {
namespace {

struct Shape {
  const char* name;
  int64_t n_tokens, n_keys, n_heads, n_kv_heads, head_dim;
};

constexpr Shape kShapes[] = {
    {"first_token", 1, 1, 2, 2, 32},
    {"decode_mha", 1, 62, 3, 3, 32},
    {"decode_gqa7", 1, 287, 14, 2, 64},
    {"prompt_mha", 62, 62, 4, 4, 32},
    {"prompt_gqa2", 125, 125, 4, 2, 48},
    {"prompt_gqa3", 125, 125, 9, 3, 64},
    {"prompt_gqa7", 62, 62, 7, 1, 32},
    {"piece_gqa2", 62, 125, 4, 2, 256},
    {"piece_gqa3", 5, 287, 6, 2, 32},
    {"two_of_three", 2, 3, 7, 1, 32},
};
constexpr torch::ScalarType kTypes[] = {torch::kFloat64, torch::kFloat32, torch::kBFloat16};

struct Inputs {
  Tensor q, k, v;
  double scale;
};

Inputs random_inputs(const Shape& shape) {
  torch::manual_seed(7);
  const auto options = torch::TensorOptions().dtype(torch::kBFloat16);  // every type can hold them
  const auto normal = [&](at::IntArrayRef sizes) { return torch::randn(sizes, options); };
  return {normal({shape.n_tokens, shape.n_heads, shape.head_dim}),
          normal({shape.n_kv_heads, shape.n_keys, shape.head_dim}),
          normal({shape.n_kv_heads, shape.n_keys, shape.head_dim}),
          1.0 / std::sqrt(static_cast<double>(shape.head_dim))};
}

Inputs as_type(const Inputs& in, torch::ScalarType type) {
  return {in.q.to(type), in.k.to(type), in.v.to(type), in.scale};
}

/// The formula, one einsum a step, in the tensors' own type. visible: [n_tokens, n_kv_heads,
/// n_keys] bool.
Tensor plain_attention(const Inputs& in, const Tensor& visible) {
  const int64_t group = in.q.size(1) / in.k.size(0);
  const Tensor k = in.k.repeat_interleave(group, 0), v = in.v.repeat_interleave(group, 0);
  const Tensor scores = torch::einsum("qhd,hkd->qhk", {in.q, k}) * in.scale;
  const Tensor hidden = visible.repeat_interleave(group, 1).logical_not();
  const Tensor weights = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity())
                             .softmax(-1)
                             .masked_fill(hidden, 0.0);
  return torch::einsum("qhk,hkd->qhd", {weights, v});
}

/// The same mask for every key/value head.
Tensor for_all_heads(const Tensor& mask, int64_t n_kv_heads) {
  return mask.unsqueeze(1).expand({mask.size(0), n_kv_heads, mask.size(1)});
}

Tensor causal_mask(const Shape& shape) {
  return torch::ones({shape.n_tokens, shape.n_keys}, torch::kBool)
      .tril(shape.n_keys - shape.n_tokens);
}

/// Checks `attend`, a function of Inputs, in every type against the formula.
template <class Attend>
void expect_attention(const Inputs& in, const Tensor& visible, const Attend& attend) {
  const Tensor exact = plain_attention(as_type(in, torch::kFloat64), visible);
  for (const torch::ScalarType type : kTypes) {
    SCOPED_TRACE(torch::toString(type));
    const Inputs typed = as_type(in, type);
    const Tensor actual = attend(typed);
    EXPECT_EQ(actual.scalar_type(), type);
    if (type == torch::kFloat64) {
      EXPECT_TRUE(all_close(actual, exact, 1e-13));
    } else {
      EXPECT_TRUE(close_by_ratio(actual, plain_attention(typed, visible), exact));
    }
  }
}

/// Lists of the keys that `visible` shows, in random order with -1 strewn in: [n_tokens,
/// n_kv_heads, n_keys + 2].
Tensor shuffled_lists(const Tensor& visible) {
  const int64_t n_keys = visible.size(2);
  const Tensor keys = torch::arange(n_keys).expand(visible.sizes());
  const Tensor listed = keys.masked_fill(visible.logical_not(), -1);
  const Tensor padded = torch::constant_pad_nd(listed, {0, 2}, -1);
  return padded.index_select(2, torch::randperm(n_keys + 2));
}

class Attention : public ::testing::TestWithParam<Shape> {};

TEST_P(Attention, DenseIsCausal) {
  const Shape& shape = GetParam();
  const Tensor visible = for_all_heads(causal_mask(shape), shape.n_kv_heads);
  expect_attention(random_inputs(shape), visible, [](const Inputs& in) {
    return dense_attention(in.q, in.k, in.v, in.scale);
  });
}

TEST_P(Attention, MaskedSeesWhatTheMaskShows) {
  const Shape& shape = GetParam();
  const Inputs in = random_inputs(shape);
  Tensor mask = torch::rand({shape.n_tokens, shape.n_keys}) < 0.3;
  mask[shape.n_tokens - 1].fill_(false);  // nothing to see: 0
  expect_attention(in, for_all_heads(mask, shape.n_kv_heads), [&](const Inputs& typed) {
    return masked_attention(typed.q, typed.k, typed.v, mask, typed.scale);
  });
}

TEST_P(Attention, SparseSeesItsLists) {
  const Shape& shape = GetParam();
  const Inputs in = random_inputs(shape);
  const Tensor visible = torch::rand({shape.n_tokens, shape.n_kv_heads, shape.n_keys}) < 0.3;
  visible[shape.n_tokens - 1].fill_(false);  // an empty list: 0
  const Tensor lists = shuffled_lists(visible);
  expect_attention(in, visible, [&](const Inputs& typed) {
    return sparse_attention(typed.q, typed.k, typed.v, lists, typed.scale);
  });
}

TEST_P(Attention, SparseOverAllKeysIsDense) {
  const Shape& shape = GetParam();
  const Inputs in = as_type(random_inputs(shape), torch::kFloat64);
  const Tensor lists = shuffled_lists(for_all_heads(causal_mask(shape), shape.n_kv_heads));
  EXPECT_TRUE(all_close(sparse_attention(in.q, in.k, in.v, lists, in.scale),
                        dense_attention(in.q, in.k, in.v, in.scale),
                        1e-13));
}

TEST_P(Attention, StridesDoNotMatter) {
  const Shape& shape = GetParam();
  const Inputs in = as_type(random_inputs(shape), torch::kFloat64);
  // Queries head-major, keys token-major, values a view into a larger cache.
  const Tensor q = in.q.transpose(0, 1).contiguous().transpose(0, 1);
  const Tensor k = in.k.transpose(0, 1).contiguous().transpose(0, 1);
  const Tensor cache = torch::full({shape.n_kv_heads, shape.n_keys + 3, shape.head_dim},
                                   std::numeric_limits<double>::quiet_NaN(),
                                   torch::kFloat64);
  const Tensor v = cache.narrow(1, 0, shape.n_keys);
  v.copy_(in.v);
  const Tensor mask = causal_mask(shape);
  const Tensor lists = shuffled_lists(for_all_heads(mask, shape.n_kv_heads));
  const Tensor expected = dense_attention(in.q, in.k, in.v, in.scale);
  EXPECT_TRUE(all_close(dense_attention(q, k, v, in.scale), expected, 1e-13));
  EXPECT_TRUE(all_close(masked_attention(q, k, v, mask, in.scale), expected, 1e-13));
  EXPECT_TRUE(all_close(sparse_attention(q, k, v, lists, in.scale), expected, 1e-13));
}

INSTANTIATE_TEST_SUITE_P(, Attention, ::testing::ValuesIn(kShapes), [](const auto& test) {
  return std::string(test.param.name);
});

constexpr Shape kSmall = {"small", 4, 6, 4, 2, 32};

TEST(AttentionEdges, EmptyListsGiveExactlyZero) {
  const Inputs in = as_type(random_inputs(kSmall), torch::kFloat32);
  const Tensor nothing = torch::zeros({4, 6}, torch::kBool);
  for (const Tensor& out :
       {masked_attention(in.q, in.k, in.v, nothing, in.scale),
        sparse_attention(in.q, in.k, in.v, torch::full({4, 2, 3}, -1, torch::kInt64), in.scale),
        sparse_attention(in.q, in.k, in.v, torch::empty({4, 2, 0}, torch::kInt64), in.scale)}) {
    EXPECT_TRUE(torch::equal(out, torch::zeros_like(in.q)));
  }
}

TEST(AttentionEdges, SparseReadsNoKeyThatIsNotListed) {
  const Inputs in = as_type(random_inputs(kSmall), torch::kFloat64);
  const Tensor lists = torch::tensor({3, 1, -1}).expand({4, 2, 3});
  const Tensor expected = sparse_attention(in.q, in.k, in.v, lists, in.scale);
  for (const int64_t unlisted : {0, 2, 4, 5}) {  // 0: what a careless gather reads for padding
    in.k.select(1, unlisted).fill_(std::numeric_limits<double>::quiet_NaN());
    in.v.select(1, unlisted).fill_(std::numeric_limits<double>::infinity());
  }
  EXPECT_TRUE(torch::equal(sparse_attention(in.q, in.k, in.v, lists, in.scale), expected));
}

TEST(AttentionEdges, LargeScoresDoNotOverflow) {
  Inputs in = as_type(random_inputs(kSmall), torch::kFloat32);
  in.scale = 1e4;
  const Tensor lists = torch::arange(6).expand({4, 2, 6});
  const Tensor all = torch::ones({4, 6}, torch::kBool);
  EXPECT_TRUE(all_close(sparse_attention(in.q, in.k, in.v, lists, in.scale),
                        masked_attention(in.q, in.k, in.v, all, in.scale),
                        1e-5));
}

TEST(AttentionEdges, GradientsFlowAndAreZeroWhereNothingIsSeen) {
  Inputs in = as_type(random_inputs(kSmall), torch::kFloat64);
  for (Tensor* tensor : {&in.q, &in.k, &in.v}) {
    tensor->requires_grad_();
  }
  const Tensor lists =
      torch::tensor({{0, 1}, {2, -1}, {-1, -1}, {5, 3}}).unsqueeze(1).expand({4, 2, 2});
  const Tensor visible =
      torch::one_hot(lists.clamp_min(0), 6).mul(lists.ge(0).unsqueeze(-1)).sum(2).to(torch::kBool);
  const auto gradients = [&](const Tensor& out) {
    return torch::autograd::grad({out.square().sum()}, {in.q, in.k, in.v});
  };
  const auto actual = gradients(sparse_attention(in.q, in.k, in.v, lists, in.scale));
  const auto expected = gradients(plain_attention(in, visible));
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_TRUE(all_close(actual[i], expected[i].nan_to_num(), 1e-12)) << i;
  }
  EXPECT_EQ(actual[0][2].abs().max().item<double>(), 0.0);
}

TEST(AttentionEdges, ShapesThatDoNotFitAreErrors) {
  const Inputs in = as_type(random_inputs(kSmall), torch::kFloat32);
  const auto dense = [&](const Tensor& q, const Tensor& k, const Tensor& v) {
    return dense_attention(q, k, v, 1.0);
  };
  EXPECT_THROW(dense(in.q[0], in.k, in.v), c10::Error);
  EXPECT_THROW(dense(in.q, in.k, in.v.narrow(1, 0, 5)), c10::Error);
  EXPECT_THROW(dense(in.q.narrow(1, 0, 3), in.k, in.v), c10::Error);  // 3 heads on 2
  EXPECT_THROW(dense(in.q, in.k.narrow(1, 0, 3), in.v.narrow(1, 0, 3)), c10::Error);
  const Tensor mask = torch::ones({4, 5}, torch::kBool);
  EXPECT_THROW(masked_attention(in.q, in.k, in.v, mask, 1.0), c10::Error);
  const Tensor lists = torch::zeros({4, 1, 2}, torch::kInt64);
  EXPECT_THROW(sparse_attention(in.q, in.k, in.v, lists, 1.0), c10::Error);
}

}  // namespace
}  // namespace ssa
