#include "attention/window_part.h"

#include "attention/cuda/window_attention.h"
#include "base/cuda_kernels.h"

namespace ssa {
namespace {

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

/// The shape, and the tensors that it points into.
struct OwnedShape {
  Tensor begin, offsets;
  cuda::WindowShape shape;
};

OwnedShape make_shape(const WindowTensors& in, const GistMaskPlan& plan) {
  const int64_t n = in.q.size(0), n_sequences = n / plan.n_tokens;
  const auto integers = torch::dtype(torch::kInt32).device(in.q.device());
  OwnedShape owned;
  owned.offsets = torch::arange(0, n + 1, plan.n_tokens, integers);
  owned.begin =
      (plan.window_begin.unsqueeze(0) + owned.offsets.slice(0, 0, n_sequences).unsqueeze(1))
          .flatten()
          .contiguous();
  owned.shape = {.tokens = static_cast<int32_t>(n),
                 .query_heads = static_cast<int32_t>(in.q.size(1)),
                 .kv_heads = static_cast<int32_t>(in.k.size(1)),
                 .head_dim = static_cast<int32_t>(in.q.size(2)),
                 .sequences = static_cast<int32_t>(n_sequences),
                 .sinks = static_cast<int32_t>(plan.n_sinks),
                 .scale = static_cast<float>(in.scale),
                 .begin = owned.begin.const_data_ptr<int32_t>(),
                 .offsets = owned.offsets.const_data_ptr<int32_t>()};
  return owned;
}

#endif

}  // namespace

#ifdef SSA_HAVE_CUDA_KERNELS

bool serves_windows(const Tensor& q, const GistMaskPlan& plan) {
  return uses_cuda_kernels() && q.is_cuda() && q.scalar_type() == torch::kBFloat16 &&
         plan.window_begin.defined() && plan.n_sinks <= cuda::kMaxSinks &&
         (q.size(2) == 64 || q.size(2) == 128);
}

void attend_windows(const WindowTensors& in,
                    const GistMaskPlan& plan,
                    const Tensor& out,
                    const Tensor& lse) {
  const OwnedShape owned = make_shape(in, plan);
  cuda::WindowForward args;
  args.shape = owned.shape;
  args.q = rows(in.q);
  args.k = rows(in.k);
  args.v = rows(in.v);
  args.far_out = rows(out);
  args.far_lse = {lse.const_data_ptr<float>(), lse.stride(0), lse.stride(1)};
  args.out = mutable_rows(out);
  args.lse = {lse.mutable_data_ptr<float>(), lse.stride(0), lse.stride(1)};
  check_launch(cuda::window_forward(args, kCudaStream), "window attention");
}

WindowGradients windows_backward(const WindowTensors& in,
                                 const GistMaskPlan& plan,
                                 const Tensor& out,
                                 const Tensor& lse,
                                 const Tensor& d_out,
                                 const Tensor& d_q) {
  const OwnedShape owned = make_shape(in, plan);
  const auto wide = in.k.options().dtype(torch::kFloat32);
  const WindowGradients gradients{torch::empty(in.k.sizes(), wide),
                                  torch::empty(in.v.sizes(), wide)};
  const Tensor workspace = torch::empty({cuda::window_backward_workspace(owned.shape)},
                                        in.q.options().dtype(torch::kUInt8));
  cuda::WindowBackward args;
  args.shape = owned.shape;
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
  check_launch(cuda::window_backward(args, kCudaStream), "gradients of window attention");
  return gradients;
}

#else

bool serves_windows(const Tensor&, const GistMaskPlan&) {
  return false;
}

void attend_windows(const WindowTensors&, const GistMaskPlan&, const Tensor&, const Tensor&) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}

WindowGradients windows_backward(const WindowTensors&,
                                 const GistMaskPlan&,
                                 const Tensor&,
                                 const Tensor&,
                                 const Tensor&,
                                 const Tensor&) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}

#endif

}  // namespace ssa
