#include "nn/cuda_row_ops.h"

#include <optional>

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

class AddRmsNorm : public torch::autograd::Function<AddRmsNorm> {
 public:
  static variable_list forward(AutogradContext* context,
                               const Tensor& x,
                               const std::optional<Tensor>& residual,  // graphs take no undefined
                               const Tensor& weight,
                               double eps) {
    const Tensor narrow = weight.to(x.scalar_type()).contiguous();
    const bool adds = residual.has_value();
    const Tensor out = torch::empty(x.sizes(), x.options().requires_grad(false));
    const Tensor sum = adds ? torch::empty_like(out) : x;
    const Tensor inverse_rms = torch::empty({x.size(0)}, out.options().dtype(torch::kFloat32));
    check_launch(cuda::add_rms_norm({.x = x.const_data_ptr(),
                                     .residual = adds ? residual->const_data_ptr() : nullptr,
                                     .weight = narrow.const_data_ptr(),
                                     .sum = adds ? sum.mutable_data_ptr() : nullptr,
                                     .out = out.mutable_data_ptr(),
                                     .inverse_rms = inverse_rms.mutable_data_ptr<float>(),
                                     .eps = static_cast<float>(eps),
                                     .rows = x.size(0),
                                     .columns = static_cast<int32_t>(x.size(1))},
                                    kCudaStream),
                 "RMS norm");
    context->save_for_backward({sum, narrow, inverse_rms});
    context->saved_data["adds"] = adds;
    context->saved_data["weight_type"] = static_cast<int64_t>(weight.scalar_type());
    return adds ? variable_list{out, sum} : variable_list{out};
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor& sum = saved[0];
    const bool adds = context->saved_data["adds"].toBool();
    const Tensor d_out = gradients[0].contiguous(),
                 d_sum = adds && gradients[1].defined() ? gradients[1].contiguous() : Tensor();
    const Tensor d_x = torch::empty(sum.sizes(), sum.options());
    const Tensor d_weight = torch::empty({sum.size(1)}, sum.options().dtype(torch::kFloat32));
    const auto columns = static_cast<int32_t>(sum.size(1));
    const Tensor workspace = torch::empty({cuda::add_rms_norm_workspace(sum.size(0), columns)},
                                          sum.options().dtype(torch::kUInt8));
    check_launch(
        cuda::add_rms_norm_backward({.sum = sum.const_data_ptr(),
                                     .weight = saved[1].const_data_ptr(),
                                     .inverse_rms = saved[2].const_data_ptr<float>(),
                                     .dout = d_out.const_data_ptr(),
                                     .dsum = d_sum.defined() ? d_sum.const_data_ptr() : nullptr,
                                     .dx = d_x.mutable_data_ptr(),
                                     .dweight = d_weight.mutable_data_ptr<float>(),
                                     .workspace = workspace.mutable_data_ptr(),
                                     .rows = sum.size(0),
                                     .columns = columns},
                                    kCudaStream),
        "gradient of RMS norm");
    const auto type = static_cast<torch::ScalarType>(context->saved_data["weight_type"].toInt());
    return {d_x, adds ? d_x : Tensor(), d_weight.to(type), Tensor()};
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

bool serves_norm(const Tensor& x) {
  return x.dim() == 2 && x.is_contiguous() && x.size(1) <= cuda::kMaxNormColumns && serves_rows(x);
}

Tensor cuda_rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  return AddRmsNorm::apply(x, std::nullopt, weight, eps)[0];
}

std::pair<Tensor, Tensor> cuda_add_rms_norm(const Tensor& x,
                                            const Tensor& residual,
                                            const Tensor& weight,
                                            double eps) {
  const variable_list both = AddRmsNorm::apply(x, std::optional(residual), weight, eps);
  return {both[1], both[0]};
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
bool serves_norm(const Tensor&) {
  return false;
}
Tensor cuda_rms_norm(const Tensor&, const Tensor&, double) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}
std::pair<Tensor, Tensor> cuda_add_rms_norm(const Tensor&, const Tensor&, const Tensor&, double) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}

#endif

}  // namespace ssa
