#include "attention/visible_attention.h"

#include <ATen/ops/_scaled_dot_product_efficient_attention.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "attention/partial_attention.h"

namespace ssa {

Tensor visible_attention(
    const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& visible, double scale) {
  const auto for_all_heads = [&](const Tensor& x) {
    return x.expand({x.size(0), q.size(1), x.size(2), x.size(3)});
  };
  if (!q.is_cuda() || q.scalar_type() == torch::kFloat64) {
    return at::scaled_dot_product_attention(
        q, for_all_heads(k), for_all_heads(v), visible, 0.0, /*is_causal=*/false, scale);
  }
  // Not cuDNN, which LibTorch would choose: it prepares itself anew, for long, for every shape.
  const Tensor bias =
      visible_bias(visible, q.scalar_type()).expand({q.size(0), q.size(1), q.size(2), k.size(2)});
  return std::get<0>(at::_scaled_dot_product_efficient_attention(q,
                                                                 for_all_heads(k),
                                                                 for_all_heads(v),
                                                                 bias,
                                                                 /*compute_log_sumexp=*/true,
                                                                 /*dropout_p=*/0.0,
                                                                 /*is_causal=*/false,
                                                                 scale));
}

}  // namespace ssa
