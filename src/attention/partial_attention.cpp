#include "attention/partial_attention.h"

#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention_backward.h>
#include <ATen/ops/_scaled_dot_product_efficient_attention.h>
#include <ATen/ops/_scaled_dot_product_efficient_attention_backward.h>
#include <ATen/ops/_scaled_dot_product_flash_attention.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_backward.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>

#include <limits>
#include <optional>

namespace ssa {
namespace {

std::optional<Tensor> if_defined(const Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

/// Keys or values as every head reads them, without a copy.
Tensor for_all_heads(const Tensor& x, int64_t n_heads) {
  return x.expand({x.size(0), n_heads, x.size(2), x.size(3)});
}

/// The inverse for gradients.
Tensor sum_heads(const Tensor& gradient, int64_t n_kv_heads) {
  return gradient.size(1) == n_kv_heads ? gradient : gradient.sum(1, /*keepdim=*/true);
}

bool is_half(const Tensor& q) {
  return q.scalar_type() == torch::kBFloat16 || q.scalar_type() == torch::kFloat16;
}

/// Of a shape whose rows kernels can load: columns are filled up in memory.
Tensor padded_columns(torch::IntArrayRef sizes, const torch::TensorOptions& options) {
  constexpr int64_t kUnit = 8;
  std::vector<int64_t> shape = sizes.vec();
  const int64_t n_columns = shape.back();
  shape.back() = (n_columns + kUnit - 1) / kUnit * kUnit;
  return torch::zeros(shape, options).slice(-1, 0, n_columns);
}

/// Rows before heads in memory, as some backward kernels walk outputs and log-sum-exps whatever
/// their strides say.
Tensor heads_side_by_side(const Tensor& x) {
  return x.transpose(1, 2).contiguous().transpose(1, 2);
}

enum class Backend { kCudnn, kFlash, kEfficient, kCpu, kPlain };

/// cuDNN is the fastest for long problems, but prepares itself anew for every shape that it has
/// not seen, at a cost that only long ones are worth: training sees new shapes all the time.
Backend choose_backend(const PartialInput& in) {
  constexpr int64_t kLong = 1536, kManyRows = 512, kManyKeys = 1024;
  // Its backward pass on Hopper has given NaN for a last half tile of keys where all of a row's
  // scores are far below 0 (PyTorch's issue 196678, cuDNN 9.19).
  const bool cudnn_is_sound = in.is_causal || in.k.size(2) % 128 != 64;
  if (in.is_tiny) {
    return Backend::kPlain;
  }
  if (in.q.is_cpu()) {
    return Backend::kCpu;
  }
  if (!in.q.is_cuda() || in.q.scalar_type() == torch::kFloat64) {
    return Backend::kPlain;
  }
  if (is_half(in.q) && in.bias.defined() && in.bias_is_finite && cudnn_is_sound &&
      in.q.size(2) >= kManyRows && in.k.size(2) >= kManyKeys) {
    return Backend::kCudnn;
  }
  if (!is_half(in.q) || in.bias.defined()) {
    return Backend::kEfficient;
  }
  return cudnn_is_sound && in.q.size(2) >= kLong && in.k.size(2) >= kLong ? Backend::kCudnn
                                                                          : Backend::kFlash;
}

/// What attention without dropout needs no random state for.
Tensor no_random_state(const Tensor& q) {
  return torch::zeros({2}, torch::dtype(torch::kUInt64).device(q.device()));
}

// LibTorch's flash attention: bf16 and f16 on CUDA, without bias. One key/value head may serve all
// heads.

PartialOutput flash_forward(const PartialInput& in) {
  const auto result = at::_scaled_dot_product_flash_attention(
      in.q, in.k, in.v, /*dropout_p=*/0.0, in.is_causal, /*return_debug_mask=*/false, in.scale);
  return {std::get<0>(result), std::get<1>(result)};
}

PartialGradients flash_backward(const PartialInput& in,
                                const PartialOutput& merged,
                                const Tensor& d_out) {
  const Tensor state = no_random_state(in.q);
  auto [d_q, d_k, d_v] = at::_scaled_dot_product_flash_attention_backward(d_out,
                                                                          in.q,
                                                                          in.k,
                                                                          in.v,
                                                                          merged.out,
                                                                          merged.lse.contiguous(),
                                                                          /*cum_seq_q=*/Tensor(),
                                                                          /*cum_seq_k=*/Tensor(),
                                                                          in.q.size(2),
                                                                          in.k.size(2),
                                                                          /*dropout_p=*/0.0,
                                                                          in.is_causal,
                                                                          state,
                                                                          Tensor(state),
                                                                          in.scale);
  return {d_q, d_k, d_v};
}

// LibTorch's memory-efficient attention: float32 too, and with bias. Its rows of lse are padded.

constexpr int64_t kLseUnit = 32;

/// The bias as these kernels read it, spelled out for all heads and rows.
Tensor efficient_bias(const PartialInput& in) {
  return in.bias.defined() ? with_aligned_rows(in.bias).expand(
                                 {in.q.size(0), in.q.size(1), in.q.size(2), in.k.size(2)})
                           : Tensor();
}

PartialOutput efficient_forward(const PartialInput& in) {
  const int64_t n_heads = in.q.size(1);
  const auto result = at::_scaled_dot_product_efficient_attention(in.q,
                                                                  for_all_heads(in.k, n_heads),
                                                                  for_all_heads(in.v, n_heads),
                                                                  if_defined(efficient_bias(in)),
                                                                  /*compute_log_sumexp=*/true,
                                                                  /*dropout_p=*/0.0,
                                                                  in.is_causal,
                                                                  in.scale);
  return {std::get<0>(result), std::get<1>(result).slice(2, 0, in.q.size(2))};
}

PartialGradients efficient_backward(const PartialInput& in,
                                    const PartialOutput& merged,
                                    const Tensor& d_out) {
  const int64_t n_heads = in.q.size(1), n_kv_heads = in.k.size(1), n_rows = in.q.size(2);
  const int64_t padding = (n_rows + kLseUnit - 1) / kLseUnit * kLseUnit - n_rows;
  const Tensor lse =
      torch::constant_pad_nd(merged.lse, {0, padding}, std::numeric_limits<float>::infinity())
          .contiguous();
  const Tensor state = torch::zeros({}, torch::kInt64);
  const auto [d_q, d_k, d_v, d_bias] =
      at::_scaled_dot_product_efficient_attention_backward(d_out,
                                                           in.q,
                                                           for_all_heads(in.k, n_heads),
                                                           for_all_heads(in.v, n_heads),
                                                           efficient_bias(in),
                                                           heads_side_by_side(merged.out),
                                                           lse,
                                                           state,
                                                           state,
                                                           /*dropout_p=*/0.0,
                                                           {true, true, true, false},
                                                           in.is_causal,
                                                           in.scale);
  return {d_q, sum_heads(d_k, n_kv_heads), sum_heads(d_v, n_kv_heads)};
}

// cuDNN: bf16 and f16 on CUDA. It takes any strides of q, k and v, and one key/value head for all
// heads.

/// As the forward pass lays outputs out: LibTorch keeps a compiled backward graph for each layout
/// of q, k, v and bias, whatever the others' was.
Tensor laid_as_outputs(const Tensor& x, const Tensor& q) {
  const Tensor output = torch::empty_like(q, q.options().device(torch::kMeta));
  return x.strides() == output.strides()
             ? x
             : torch::empty_strided(x.sizes(), output.strides(), x.options()).copy_(x);
}

PartialOutput cudnn_forward(const PartialInput& in) {
  const auto result = at::_scaled_dot_product_cudnn_attention(in.q,
                                                              in.k,
                                                              in.v,
                                                              if_defined(in.bias),
                                                              /*compute_log_sumexp=*/true,
                                                              /*dropout_p=*/0.0,
                                                              in.is_causal,
                                                              /*return_debug_mask=*/false,
                                                              in.scale);
  return {std::get<0>(result), std::get<1>(result).squeeze(-1)};
}

PartialGradients cudnn_backward(const PartialInput& in,
                                const PartialOutput& merged,
                                const Tensor& d_out) {
  const Tensor unused_seed = torch::zeros({}, torch::dtype(torch::kInt64).device(in.q.device()));
  const auto [d_q, d_k, d_v] =
      at::_scaled_dot_product_cudnn_attention_backward(laid_as_outputs(d_out, in.q),
                                                       in.q,
                                                       in.k,
                                                       in.v,
                                                       laid_as_outputs(merged.out, in.q),
                                                       merged.lse.contiguous().unsqueeze(-1),
                                                       unused_seed,
                                                       unused_seed,
                                                       in.bias,
                                                       /*cum_seq_q=*/Tensor(),
                                                       /*cum_seq_k=*/Tensor(),
                                                       in.q.size(2),
                                                       in.k.size(2),
                                                       /*dropout_p=*/0.0,
                                                       in.is_causal,
                                                       in.scale);
  return {d_q, d_k, d_v};
}

// LibTorch's flash attention on the CPU: every float dtype.

PartialOutput cpu_forward(const PartialInput& in) {
  const int64_t n_heads = in.q.size(1);
  auto [out, lse] = at::_scaled_dot_product_flash_attention_for_cpu(in.q,
                                                                    for_all_heads(in.k, n_heads),
                                                                    for_all_heads(in.v, n_heads),
                                                                    /*dropout_p=*/0.0,
                                                                    in.is_causal,
                                                                    if_defined(in.bias),
                                                                    in.scale);
  return {out, lse};
}

PartialGradients cpu_backward(const PartialInput& in,
                              const PartialOutput& merged,
                              const Tensor& d_out) {
  const int64_t n_heads = in.q.size(1), n_kv_heads = in.k.size(1);
  const auto [d_q, d_k, d_v] =
      at::_scaled_dot_product_flash_attention_for_cpu_backward(d_out,
                                                               in.q,
                                                               for_all_heads(in.k, n_heads),
                                                               for_all_heads(in.v, n_heads),
                                                               merged.out,
                                                               heads_side_by_side(merged.lse),
                                                               /*dropout_p=*/0.0,
                                                               in.is_causal,
                                                               if_defined(in.bias),
                                                               in.scale);
  return {d_q, sum_heads(d_k, n_kv_heads), sum_heads(d_v, n_kv_heads)};
}

// Plain products: the reference, and float64 on CUDA. Holds all scores.

Tensor scores_of(const PartialInput& in) {
  Tensor scores = torch::matmul(in.q, in.k.transpose(-1, -2)).mul_(in.scale);
  if (in.bias.defined()) {
    scores = scores + in.bias;
  }
  if (in.is_causal) {
    const Tensor hidden =
        torch::ones({in.q.size(2), in.k.size(2)}, scores.options().dtype(torch::kBool)).triu(1);
    scores.masked_fill_(hidden, -std::numeric_limits<double>::infinity());
  }
  return scores;
}

PartialOutput plain_forward(const PartialInput& in) {
  const Tensor scores = scores_of(in), lse = scores.logsumexp(-1);
  return {torch::matmul((scores - lse.unsqueeze(-1)).exp(), in.v), lse};
}

PartialGradients plain_backward(const PartialInput& in,
                                const PartialOutput& merged,
                                const Tensor& d_out) {
  const int64_t n_kv_heads = in.k.size(1);
  const Tensor p = (scores_of(in) - merged.lse.unsqueeze(-1)).exp();
  const Tensor delta = (d_out * merged.out).sum(-1, /*keepdim=*/true);
  const Tensor d_scores = p * (torch::matmul(d_out, in.v.transpose(-1, -2)) - delta) * in.scale;
  return {torch::matmul(d_scores, in.k),
          sum_heads(torch::matmul(d_scores.transpose(-1, -2), in.q), n_kv_heads),
          sum_heads(torch::matmul(p.transpose(-1, -2), d_out), n_kv_heads)};
}

}  // namespace

Tensor visible_bias(const Tensor& visible, torch::ScalarType dtype) {
  return padded_columns(visible.sizes(), torch::dtype(dtype).device(visible.device()))
      .masked_fill_(visible.logical_not(), kHiddenScore);
}

Tensor with_aligned_rows(const Tensor& bias) {
  constexpr int64_t kUnit = 8;
  bool is_aligned = bias.stride(-1) == 1 && reinterpret_cast<uintptr_t>(bias.data_ptr()) % 16 == 0;
  for (int64_t dimension = 0; dimension + 1 < bias.dim(); ++dimension) {
    is_aligned = is_aligned && bias.stride(dimension) % kUnit == 0;
  }
  return is_aligned ? bias : padded_columns(bias.sizes(), bias.options()).copy_(bias);
}

PartialOutput partial_attention(const PartialInput& in) {
  TORCH_CHECK(in.q.dim() == 4 && in.k.dim() == 4 && in.k.sizes() == in.v.sizes() &&
                  (in.k.size(1) == 1 || in.k.size(1) == in.q.size(1)),
              "partial attention: q ",
              in.q.sizes(),
              ", k ",
              in.k.sizes(),
              ", v ",
              in.v.sizes());
  switch (choose_backend(in)) {
    case Backend::kCudnn:
      return cudnn_forward(in);
    case Backend::kFlash:
      return flash_forward(in);
    case Backend::kEfficient:
      return efficient_forward(in);
    case Backend::kCpu:
      return cpu_forward(in);
    case Backend::kPlain:
      break;
  }
  return plain_forward(in);
}

PartialGradients partial_attention_backward(const PartialInput& in,
                                            const PartialOutput& merged,
                                            const Tensor& d_out) {
  switch (choose_backend(in)) {
    case Backend::kCudnn:
      return cudnn_backward(in, merged, d_out);
    case Backend::kFlash:
      return flash_backward(in, merged, d_out);
    case Backend::kEfficient:
      return efficient_backward(in, merged, d_out);
    case Backend::kCpu:
      return cpu_backward(in, merged, d_out);
    case Backend::kPlain:
      break;
  }
  return plain_backward(in, merged, d_out);
}

}  // namespace ssa
