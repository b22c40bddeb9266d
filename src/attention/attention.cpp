// The reference: plain LibTorch on any device and dtype. Faster versions are measured against it.
#include "attention/attention.h"

#include <limits>

namespace ssa {
namespace {

/// q with its heads split into groups, the key/value head in front: [n_kv_heads, group, n_tokens,
/// head_dim].
Tensor group_queries(const Tensor& q, int64_t n_kv_heads) {
  return q.view({q.size(0), n_kv_heads, q.size(1) / n_kv_heads, q.size(2)}).permute({1, 2, 0, 3});
}

/// The inverse of group_queries.
Tensor ungroup(const Tensor& out) {
  return out.permute({2, 0, 1, 3}).reshape({out.size(2), out.size(0) * out.size(1), out.size(3)});
}

/// Keys or values seen by every head of the group, without a copy: [n_kv_heads, group, n_keys,
/// head_dim].
Tensor share_over_group(const Tensor& x, int64_t group) {
  return x.unsqueeze(1).expand({x.size(0), group, x.size(1), x.size(2)});
}

void check_shapes(const Tensor& q, const Tensor& k, const Tensor& v) {
  TORCH_CHECK(q.dim() == 3 && k.dim() == 3 && v.sizes() == k.sizes() && q.size(2) == k.size(2),
              "attention: q ",
              q.sizes(),
              ", k ",
              k.sizes(),
              ", v ",
              v.sizes(),
              "; expected [n_tokens, n_heads, d] and twice [n_kv_heads, n_keys, d]");
  TORCH_CHECK(q.size(1) % k.size(0) == 0,
              "attention: ",
              q.size(1),
              " query heads cannot share ",
              k.size(0),
              " key/value heads");
}

}  // namespace

Tensor dense_attention(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
  check_shapes(q, k, v);
  const int64_t n_tokens = q.size(0), n_keys = k.size(1);
  TORCH_CHECK(n_keys >= n_tokens, "dense_attention: ", n_keys, " keys for ", n_tokens, " queries");
  if (n_tokens > 1 && n_keys > n_tokens) {
    const auto ones = torch::ones({n_tokens, n_keys}, q.options().dtype(torch::kBool));
    return masked_attention(q, k, v, ones.tril(n_keys - n_tokens), scale);
  }
  const int64_t group = q.size(1) / k.size(0);
  return ungroup(torch::scaled_dot_product_attention(group_queries(q, k.size(0)),
                                                     share_over_group(k, group),
                                                     share_over_group(v, group),
                                                     /*attn_mask=*/{},
                                                     /*dropout_p=*/0.0,
                                                     /*is_causal=*/n_tokens > 1,
                                                     scale));
}

Tensor masked_attention(
    const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, double scale) {
  check_shapes(q, k, v);
  TORCH_CHECK(mask.dim() == 2 && mask.size(0) == q.size(0) && mask.size(1) == k.size(1),
              "masked_attention: mask ",
              mask.sizes(),
              ", expected [",
              q.size(0),
              ", ",
              k.size(1),
              "]");
  const int64_t group = q.size(1) / k.size(0);
  // 2-D masks are broadcast; rows without a key come out as NaN in some back ends, hence the
  // explicit zero.
  const Tensor out = ungroup(torch::scaled_dot_product_attention(group_queries(q, k.size(0)),
                                                                 share_over_group(k, group),
                                                                 share_over_group(v, group),
                                                                 mask,
                                                                 /*dropout_p=*/0.0,
                                                                 /*is_causal=*/false,
                                                                 scale));
  const Tensor sees_nothing = mask.any(1).logical_not().view({-1, 1, 1});
  return out.masked_fill(sees_nothing, 0.0);
}

Tensor sparse_attention(
    const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& indices, double scale) {
  check_shapes(q, k, v);
  const int64_t n_tokens = q.size(0), n_kv_heads = k.size(0), head_dim = k.size(2);
  TORCH_CHECK(indices.dim() == 3 && indices.size(0) == n_tokens && indices.size(1) == n_kv_heads,
              "sparse_attention: indices ",
              indices.sizes(),
              ", expected [",
              n_tokens,
              ", ",
              n_kv_heads,
              ", n_chosen]");
  const int64_t n_chosen = indices.size(2);
  if (n_chosen == 0) {
    return torch::zeros_like(q);
  }
  const Tensor absent = indices < 0;
  // Rows of the flattened [n_kv_heads * n_keys, head_dim] keys.
  const Tensor head = torch::arange(n_kv_heads, indices.options()).view({1, -1, 1});
  const Tensor rows = (indices.clamp_min(0) + head * k.size(1)).flatten();
  // Padding reads row 0: zeros in its place, for a weight of 0 times infinity is not 0.
  const auto gather = [&](const Tensor& x) {
    return x.reshape({-1, head_dim})
        .index_select(0, rows)
        .view({n_tokens, n_kv_heads, n_chosen, head_dim})
        .masked_fill(absent.unsqueeze(3), 0.0);
  };
  const Tensor queries = q.view({n_tokens, n_kv_heads, -1, head_dim});
  const Tensor scores =
      torch::matmul(queries, gather(k).transpose(2, 3))
          .mul(scale)
          .to(q.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32);
  const Tensor hidden = absent.unsqueeze(2);
  const Tensor masked = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
  const Tensor weights = masked.softmax(-1).masked_fill(hidden, 0.0);  // all absent: 0, not NaN
  return torch::matmul(weights.to(q.scalar_type()), gather(v)).view(q.sizes());
}

}  // namespace ssa
