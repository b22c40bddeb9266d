#include "attention/window_part.h"

#include <limits>

#include "attention/cuda/window_attention.h"
#include "base/cuda_kernels.h"

namespace ssa {
namespace {

// The reference: all scores at once.

/// [n, n]: row t sees row u.
Tensor visible(const Windows& windows) {
  const int64_t n = windows.begin.size(0);
  const Tensor rows = torch::arange(n, windows.begin.options()),
               starts = windows.offsets.slice(0, 0, windows.offsets.size(0) - 1);
  const Tensor sequence =
      torch::searchsorted(windows.offsets, rows, /*out_int32=*/false, /*right=*/true) - 1;
  const Tensor start = starts.index_select(0, sequence).unsqueeze(1),
               begin = windows.begin.unsqueeze(1);
  const Tensor t = rows.unsqueeze(1), u = rows.unsqueeze(0);
  return u.le(t).logical_and(
      u.ge(begin).logical_or(u.ge(start).logical_and(u.lt(start + windows.n_sinks))));
}

Tensor heads_first(const Tensor& x, int64_t times) {
  return x.transpose(0, 1).repeat_interleave(times, 0);
}

/// [n_heads, n, n].
Tensor scores_of(const WindowTensors& in, const Windows& windows) {
  const int64_t group = in.q.size(1) / in.k.size(1);
  const auto wide = torch::promote_types(in.q.scalar_type(), torch::kFloat32);
  return torch::matmul(heads_first(in.q, 1).to(wide),
                       heads_first(in.k, group).to(wide).transpose(1, 2))
      .mul_(in.scale)
      .masked_fill_(visible(windows).logical_not(), -std::numeric_limits<double>::infinity());
}

void attend_plainly(const WindowTensors& in,
                    const Windows& windows,
                    const Tensor& out,
                    const Tensor& lse) {
  const Tensor scores = scores_of(in, windows), near_lse = scores.logsumexp(-1);  // [n_heads, n]
  const Tensor values = heads_first(in.v, in.q.size(1) / in.k.size(1)).to(scores.scalar_type());
  const Tensor near =
      torch::matmul((scores - near_lse.unsqueeze(-1)).exp(), values).transpose(0, 1);
  const Tensor merged = torch::logaddexp(lse, near_lse.t());
  const Tensor share = (lse - merged).exp().unsqueeze(-1);
  const Tensor far = torch::where(share > 0, out.to(scores.scalar_type()), 0.0);
  out.copy_(far * share + near * (near_lse.t() - merged).exp().unsqueeze(-1));
  lse.copy_(merged);
}

WindowGradients plain_backward(const WindowTensors& in,
                               const Windows& windows,
                               const Tensor& out,
                               const Tensor& lse,
                               const Tensor& d_out,
                               const Tensor& d_q) {
  const int64_t n_kv_heads = in.k.size(1), group = in.q.size(1) / n_kv_heads;
  const Tensor p = (scores_of(in, windows) - lse.t().unsqueeze(-1)).exp();
  const auto wide = [&](const Tensor& x, int64_t times) {
    return heads_first(x, times).to(p.scalar_type());
  };
  const Tensor delta = (wide(d_out, 1) * wide(out, 1)).sum(-1, /*keepdim=*/true);
  const Tensor d_scores =
      p * (torch::matmul(wide(d_out, 1), wide(in.v, group).transpose(1, 2)) - delta) * in.scale;
  d_q.add_(torch::matmul(d_scores, wide(in.k, group)).transpose(0, 1));
  const auto by_kv_head = [&](const Tensor& x) {
    return x.unflatten(0, {n_kv_heads, group}).sum(1).transpose(0, 1).contiguous();
  };
  return {by_kv_head(torch::matmul(d_scores.transpose(1, 2), wide(in.q, 1))),
          by_kv_head(torch::matmul(p.transpose(1, 2), wide(d_out, 1)))};
}

#ifdef SSA_HAVE_CUDA_KERNELS

void check_launch(int code, const char* what) {
  TORCH_CHECK(code == 0, what, ": CUDA error ", code);
}

cuda::HeadRows rows(const Tensor& x) {
  return {x.const_data_ptr(), x.stride(0), x.stride(1)};
}
cuda::MutableHeadRows mutable_rows(const Tensor& x) {
  return {x.mutable_data_ptr(), x.stride(0), x.stride(1)};
}

cuda::WindowShape make_shape(const WindowTensors& in, const Windows& windows) {
  return {.tokens = static_cast<int32_t>(in.q.size(0)),
          .query_heads = static_cast<int32_t>(in.q.size(1)),
          .kv_heads = static_cast<int32_t>(in.k.size(1)),
          .head_dim = static_cast<int32_t>(in.q.size(2)),
          .sequences = static_cast<int32_t>(windows.offsets.size(0) - 1),
          .sinks = static_cast<int32_t>(windows.n_sinks),
          .scale = static_cast<float>(in.scale),
          .begin = windows.begin.const_data_ptr<int32_t>(),
          .offsets = windows.offsets.const_data_ptr<int32_t>()};
}

void attend_by_kernel(const WindowTensors& in,
                      const Windows& windows,
                      const Tensor& out,
                      const Tensor& lse) {
  cuda::WindowForward args;
  args.shape = make_shape(in, windows);
  args.q = rows(in.q);
  args.k = rows(in.k);
  args.v = rows(in.v);
  args.far_out = rows(out);
  args.far_lse = {lse.const_data_ptr<float>(), lse.stride(0), lse.stride(1)};
  args.out = mutable_rows(out);
  args.lse = {lse.mutable_data_ptr<float>(), lse.stride(0), lse.stride(1)};
  const c10::DeviceGuard guard(in.q.device());
  check_launch(cuda::window_forward(args, kCudaStream), "window attention");
}

WindowGradients kernel_backward(const WindowTensors& in,
                                const Windows& windows,
                                const Tensor& out,
                                const Tensor& lse,
                                const Tensor& d_out,
                                const Tensor& d_q) {
  const auto wide = in.k.options().dtype(torch::kFloat32);
  const WindowGradients gradients{torch::empty(in.k.sizes(), wide),
                                  torch::empty(in.v.sizes(), wide)};
  cuda::WindowBackward args;
  args.shape = make_shape(in, windows);
  const Tensor workspace = torch::empty({cuda::window_backward_workspace(args.shape)},
                                        in.q.options().dtype(torch::kUInt8));
  args.q = rows(in.q);
  args.k = rows(in.k);
  args.v = rows(in.v);
  args.out = rows(out);
  args.dout = rows(d_out);
  args.lse = {lse.const_data_ptr<float>(), lse.stride(0), lse.stride(1)};
  args.far_dq = rows(d_q);
  args.dq = mutable_rows(d_q);
  args.dk = mutable_rows(gradients.k);
  args.dv = mutable_rows(gradients.v);
  args.dkv_type = cuda::RowType::kFloat32;
  args.workspace = workspace.mutable_data_ptr();
  const c10::DeviceGuard guard(in.q.device());
  check_launch(cuda::window_backward(args, kCudaStream), "gradients of window attention");
  return gradients;
}

#endif

}  // namespace

bool serves_windows([[maybe_unused]] const Tensor& q, [[maybe_unused]] int64_t n_sinks) {
#ifdef SSA_HAVE_CUDA_KERNELS
  return uses_cuda_kernels() && q.is_cuda() && q.scalar_type() == torch::kBFloat16 &&
         n_sinks <= cuda::kMaxSinks && (q.size(2) == 64 || q.size(2) == 128);
#else
  return false;
#endif
}

void attend_windows(const WindowTensors& in,
                    const Windows& windows,
                    const Tensor& out,
                    const Tensor& lse) {
#ifdef SSA_HAVE_CUDA_KERNELS
  if (serves_windows(in.q, windows.n_sinks)) {
    return attend_by_kernel(in, windows, out, lse);
  }
#endif
  attend_plainly(in, windows, out, lse);
}

WindowGradients windows_backward(const WindowTensors& in,
                                 const Windows& windows,
                                 const Tensor& out,
                                 const Tensor& lse,
                                 const Tensor& d_out,
                                 const Tensor& d_q) {
#ifdef SSA_HAVE_CUDA_KERNELS
  if (serves_windows(in.q, windows.n_sinks)) {
    return kernel_backward(in, windows, out, lse, d_out, d_q);
  }
#endif
  return plain_backward(in, windows, out, lse, d_out, d_q);
}

}  // namespace ssa
