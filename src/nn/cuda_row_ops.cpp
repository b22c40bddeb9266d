#include "nn/cuda_row_ops.h"

#include <c10/core/DeviceGuard.h>
#include <torch/autograd.h>
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

/// x and out: [n_tokens, n_heads, head_dim] of any strides that serve_rows().
void rotate_into(
    const Tensor& out, const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse) {
  const c10::DeviceGuard guard(x.device());
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
}

Tensor rotate(const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse) {
  const Tensor out = torch::empty(x.sizes(), x.options().requires_grad(false));
  rotate_into(out, x, cos, sin, inverse);
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

/// q, k and v of one product, q and k turned; their gradients are one matrix again.
class RotationOfParts : public torch::autograd::Function<RotationOfParts> {
 public:
  static variable_list forward(AutogradContext* context,
                               const Tensor& qkv,
                               const Tensor& cos,
                               const Tensor& sin,
                               int64_t n_heads,
                               int64_t n_kv_heads) {
    context->save_for_backward({cos, sin});
    context->saved_data["n_kv_heads"] = n_kv_heads;
    const Parts in = parts_of(qkv, n_heads, n_kv_heads);
    return {rotate(in.q, cos, sin, false),
            rotate(in.k, cos, sin, false),
            in.v.clone(torch::MemoryFormat::Contiguous)};
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &cos = saved[0], &sin = saved[1], &d_q = gradients[0];
    const int64_t n_heads = d_q.size(1), n_kv_heads = context->saved_data["n_kv_heads"].toInt();
    const Tensor d_qkv =
        torch::empty({d_q.size(0), (n_heads + 2 * n_kv_heads) * d_q.size(2)}, d_q.options());
    const Parts out = parts_of(d_qkv, n_heads, n_kv_heads);
    rotate_into(out.q, d_q.contiguous(), cos, sin, true);
    rotate_into(out.k, gradients[1].contiguous(), cos, sin, true);
    out.v.copy_(gradients[2]);
    return {d_qkv, Tensor(), Tensor(), Tensor(), Tensor()};
  }

 private:
  struct Parts {
    Tensor q, k, v;  // [n_tokens, heads, head_dim] each
  };
  static Parts parts_of(const Tensor& qkv, int64_t n_heads, int64_t n_kv_heads) {
    const Tensor heads = qkv.unflatten(1, {n_heads + 2 * n_kv_heads, -1});
    return {heads.narrow(1, 0, n_heads),
            heads.narrow(1, n_heads, n_kv_heads),
            heads.narrow(1, n_heads + n_kv_heads, n_kv_heads)};
  }
};

Tensor silu_product(const Tensor& gate, const Tensor& up) {
  const Tensor out = torch::empty(gate.sizes(), gate.options().requires_grad(false));
  const c10::DeviceGuard guard(gate.device());
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

void silu_gradients(const Tensor& gate,
                    const Tensor& up,
                    const Tensor& d_out,
                    const Tensor& d_gate,
                    const Tensor& d_up) {
  const c10::DeviceGuard guard(gate.device());
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
}

class SiluTimes : public torch::autograd::Function<SiluTimes> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& gate, const Tensor& up) {
    context->save_for_backward({gate, up});
    return silu_product(gate, up);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &gate = saved[0], &up = saved[1];
    const Tensor d_gate = torch::empty(gate.sizes(), gate.options()),
                 d_up = torch::empty(up.sizes(), up.options());
    silu_gradients(gate, up, gradients[0].contiguous(), d_gate, d_up);
    return {d_gate, d_up};
  }
};

/// Gate and up side by side, and their gradients.
class SiluTimesHalves : public torch::autograd::Function<SiluTimesHalves> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& gate_up) {
    context->save_for_backward({gate_up});
    const auto [gate, up] = halves(gate_up);
    return silu_product(gate, up);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Tensor gate_up = context->get_saved_variables()[0];
    const Tensor d_gate_up = torch::empty(gate_up.sizes(), gate_up.options());
    const auto [gate, up] = halves(gate_up);
    const auto [d_gate, d_up] = halves(d_gate_up);
    silu_gradients(gate, up, gradients[0].contiguous(), d_gate, d_up);
    return {d_gate_up};
  }

 private:
  static std::pair<Tensor, Tensor> halves(const Tensor& x) {
    const int64_t n = x.size(1) / 2;
    return {x.narrow(1, 0, n), x.narrow(1, n, n)};
  }
};

/// The norm of x or of x + residual, and, where it `keeps`, what it is the norm of: gradients of
/// both then meet in one pass.
class AddRmsNorm : public torch::autograd::Function<AddRmsNorm> {
 public:
  static variable_list forward(AutogradContext* context,
                               const Tensor& x,
                               const std::optional<Tensor>& residual,  // graphs take no undefined
                               const Tensor& weight,
                               double eps,
                               bool keeps) {
    const Tensor narrow = weight.to(x.scalar_type()).contiguous();
    const bool adds = residual.has_value();
    const Tensor out = torch::empty(x.sizes(), x.options().requires_grad(false));
    const Tensor sum = adds ? torch::empty_like(out) : x;
    const Tensor inverse_rms = torch::empty({x.size(0)}, out.options().dtype(torch::kFloat32));
    const c10::DeviceGuard guard(x.device());
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
    context->saved_data["keeps"] = keeps;
    context->saved_data["weight_type"] = static_cast<int64_t>(weight.scalar_type());
    context->saved_data["trains_weight"] = weight.requires_grad();
    return keeps ? variable_list{out, sum} : variable_list{out};
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor& sum = saved[0];
    const bool adds = context->saved_data["adds"].toBool(),
               keeps = context->saved_data["keeps"].toBool();
    const Tensor d_out = gradients[0].contiguous(),
                 d_sum = keeps && gradients[1].defined() ? gradients[1].contiguous() : Tensor();
    const Tensor d_x = torch::empty(sum.sizes(), sum.options());
    const auto columns = static_cast<int32_t>(sum.size(1));
    Tensor d_weight, workspace;
    if (context->saved_data["trains_weight"].toBool()) {
      d_weight = torch::empty({sum.size(1)}, sum.options().dtype(torch::kFloat32));
      workspace = torch::empty({cuda::add_rms_norm_workspace(sum.size(0), columns)},
                               sum.options().dtype(torch::kUInt8));
    }
    const c10::DeviceGuard guard(sum.device());
    check_launch(cuda::add_rms_norm_backward(
                     {.sum = sum.const_data_ptr(),
                      .weight = saved[1].const_data_ptr(),
                      .inverse_rms = saved[2].const_data_ptr<float>(),
                      .dout = d_out.const_data_ptr(),
                      .dsum = d_sum.defined() ? d_sum.const_data_ptr() : nullptr,
                      .dx = d_x.mutable_data_ptr(),
                      .dweight = d_weight.defined() ? d_weight.mutable_data_ptr<float>() : nullptr,
                      .workspace = workspace.defined() ? workspace.mutable_data_ptr() : nullptr,
                      .rows = sum.size(0),
                      .columns = columns},
                     kCudaStream),
                 "gradient of RMS norm");
    const auto type = static_cast<torch::ScalarType>(context->saved_data["weight_type"].toInt());
    return {d_x,
            adds ? d_x : Tensor(),
            d_weight.defined() ? d_weight.to(type) : Tensor(),
            Tensor(),
            Tensor()};
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

Tensor cuda_silu_times(const Tensor& gate_up) {
  return SiluTimesHalves::apply(gate_up);
}

Tensor cuda_rotate_halves(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  return Rotation::apply(x, cos, sin);
}

std::array<Tensor, 3> cuda_rotate_parts(
    const Tensor& qkv, int64_t n_heads, int64_t n_kv_heads, const Tensor& cos, const Tensor& sin) {
  const variable_list parts = RotationOfParts::apply(qkv, cos, sin, n_heads, n_kv_heads);
  return {parts[0], parts[1], parts[2]};
}

bool serves_norm(const Tensor& x) {
  return x.dim() == 2 && x.is_contiguous() && x.size(1) <= cuda::kMaxNormColumns && serves_rows(x);
}

Tensor cuda_rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  return AddRmsNorm::apply(x, std::nullopt, weight, eps, /*keeps=*/false)[0];
}

std::pair<Tensor, Tensor> cuda_rms_norm_beside(const Tensor& x, const Tensor& weight, double eps) {
  const variable_list both = AddRmsNorm::apply(x, std::nullopt, weight, eps, /*keeps=*/true);
  return {both[1], both[0]};
}

std::pair<Tensor, Tensor> cuda_add_rms_norm(const Tensor& x,
                                            const Tensor& residual,
                                            const Tensor& weight,
                                            double eps) {
  const variable_list both =
      AddRmsNorm::apply(x, std::optional(residual), weight, eps, /*keeps=*/true);
  return {both[1], both[0]};
}

#else

bool serves_rows(const Tensor&) {
  return false;
}
Tensor cuda_silu_times(const Tensor&, const Tensor&) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}
Tensor cuda_silu_times(const Tensor&) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}
Tensor cuda_rotate_halves(const Tensor&, const Tensor&, const Tensor&) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}
std::array<Tensor, 3> cuda_rotate_parts(
    const Tensor&, int64_t, int64_t, const Tensor&, const Tensor&) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}
bool serves_norm(const Tensor&) {
  return false;
}
Tensor cuda_rms_norm(const Tensor&, const Tensor&, double) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}
std::pair<Tensor, Tensor> cuda_rms_norm_beside(const Tensor&, const Tensor&, double) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}
std::pair<Tensor, Tensor> cuda_add_rms_norm(const Tensor&, const Tensor&, const Tensor&, double) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}

#endif

}  // namespace ssa
