#include "nn/cuda_row_ops.h"

#include "base/cuda_kernels.h"
#include "nn/cuda/row_kernels.h"

namespace ssa {

#ifdef SSA_HAVE_CUDA_KERNELS

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void check_launch(int code, const char* what) {
  TORCH_CHECK(code == 0, what, ": CUDA error ", code);
}

Tensor rotate(const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse) {
  const Tensor out = torch::empty(x.sizes(), x.options().requires_grad(false));
  check_launch(cuda::rotate_halves({.x = x.const_data_ptr(),
                                    .x_token_stride = x.stride(0),
                                    .x_head_stride = x.stride(1),
                                    .out = out.mutable_data_ptr(),
                                    .out_token_stride = out.stride(0),
                                    .out_head_stride = out.stride(1),
                                    .cos = cos.const_data_ptr(),
                                    .sin = sin.const_data_ptr(),
                                    .tables_are_float = cos.scalar_type() == torch::kFloat32,
                                    .inverse = inverse,
                                    .tokens = static_cast<int32_t>(x.size(0)),
                                    .heads = static_cast<int32_t>(x.size(1)),
                                    .head_dim = static_cast<int32_t>(x.size(2))},
                                   kCudaStream),
               "rotary embedding");
  return out;
}

class Rotation : public torch::autograd::Function<Rotation> {
 public:
  static Tensor forward(AutogradContext* context,
                        const Tensor& x,
                        const Tensor& cos,
                        const Tensor& sin) {
    context->save_for_backward({cos, sin});
    return rotate(x, cos, sin, false);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    return {rotate(gradients[0].contiguous(), saved[0], saved[1], true), Tensor(), Tensor()};
  }
};

class SiluTimes : public torch::autograd::Function<SiluTimes> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& gate, const Tensor& up) {
    context->save_for_backward({gate, up});
    const Tensor out = torch::empty(gate.sizes(), gate.options().requires_grad(false));
    check_launch(cuda::silu_times({.gate = gate.const_data_ptr(),
                                   .up = up.const_data_ptr(),
                                   .gate_stride = gate.stride(0),
                                   .up_stride = up.stride(0),
                                   .out = out.mutable_data_ptr(),
                                   .rows = gate.size(0),
                                   .columns = gate.size(1)},
                                  kCudaStream),
                 "silu");
    return out;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &gate = saved[0], &up = saved[1], d_out = gradients[0].contiguous();
    const Tensor d_gate = torch::empty(gate.sizes(), gate.options()),
                 d_up = torch::empty(up.sizes(), up.options());
    check_launch(cuda::silu_times_backward({.gate = gate.const_data_ptr(),
                                            .up = up.const_data_ptr(),
                                            .gate_stride = gate.stride(0),
                                            .up_stride = up.stride(0),
                                            .dout = d_out.const_data_ptr(),
                                            .dgate = d_gate.mutable_data_ptr(),
                                            .dup = d_up.mutable_data_ptr(),
                                            .dgate_stride = d_gate.stride(0),
                                            .dup_stride = d_up.stride(0),
                                            .rows = gate.size(0),
                                            .columns = gate.size(1)},
                                           kCudaStream),
                 "gradient of silu");
    return {d_gate, d_up};
  }
};

}  // namespace

bool serves_rows(const Tensor& x) {
  constexpr int64_t kUnit = 8;  // bf16 numbers that are loaded at once
  if (!x.is_cuda() || x.scalar_type() != torch::kBFloat16 || !uses_cuda_kernels() ||
      x.stride(-1) != 1 || x.numel() == 0) {
    return false;
  }
  bool aligned =
      reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0 && x.size(-1) % kUnit == 0;
  for (int64_t i = 0; i + 1 < x.dim(); ++i) {
    aligned = aligned && x.stride(i) % kUnit == 0;
  }
  return aligned;
}

Tensor cuda_silu_times(const Tensor& gate, const Tensor& up) {
  return SiluTimes::apply(gate, up);
}

Tensor cuda_rotate_halves(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  return Rotation::apply(x, cos, sin);
}

#else

bool serves_rows(const Tensor&) {
  return false;
}
Tensor cuda_silu_times(const Tensor&, const Tensor&) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}
Tensor cuda_rotate_halves(const Tensor&, const Tensor&, const Tensor&) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}

#endif

}  // namespace ssa
