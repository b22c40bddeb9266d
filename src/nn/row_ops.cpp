#include "nn/row_ops.h"

#include "nn/cpu/row_kernels.h"
#include "nn/cuda_row_ops.h"
#include "nn/number_type.h"

namespace ssa {
namespace {

/// One thread passes over so many numbers in the time that several take to start.
constexpr int64_t kFewNumbers = int64_t{1} << 16;

bool takes_own_loops(const Tensor& x) {
  return !torch::GradMode::is_enabled() && x.device().is_cpu() &&
         has_number_type(x.scalar_type()) && x.stride(-1) == 1 && x.numel() <= kFewNumbers;
}

template <class T>
const cpu::RowKernels<T>& kernels() {
  return cpu::row_kernels<T>(instruction_set());
}

/// Calls fn(row of x, row of out) for all rows of the last dimension. x has two or three; out is
/// contiguous.
template <class T, class Fn>
void for_each_row(const Tensor& x, const Tensor& out, const Fn& fn) {
  const bool has_heads = x.dim() == 3;
  const int64_t n_heads = has_heads ? x.size(1) : 1, head_stride = has_heads ? x.stride(1) : 0;
  T* to = mutable_data<T>(out);
  for (int64_t t = 0; t < x.size(0); ++t) {
    for (int64_t h = 0; h < n_heads; ++h, to += x.size(-1)) {
      fn(const_data<T>(x) + t * x.stride(0) + h * head_stride, to);
    }
  }
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& any_weight, double eps) {
  if (serves_norm(x)) {
    return cuda_rms_norm(x, any_weight, eps);
  }
  const Tensor weight = any_weight.to(x.scalar_type());
  if (takes_own_loops(x) && weight.scalar_type() == x.scalar_type() && weight.is_contiguous()) {
    const Tensor out = torch::empty(x.sizes(), x.options());
    with_number_type(x.scalar_type(), [&]<class T>(T*) {
      for_each_row<T>(x, out, [&](const T* from, T* to) {
        kernels<T>().rms_norm(from, const_data<T>(weight), static_cast<float>(eps), x.size(-1), to);
      });
    });
    return out;
  }
  if (torch::GradMode::is_enabled() && x.is_cuda()) {
    return torch::rms_norm(
        x, weight.sizes(), weight, eps);  // one kernel, and little to keep for backward
  }
  const bool half = x.scalar_type() == torch::kBFloat16 || x.scalar_type() == torch::kFloat16;
  const Tensor wide = half ? x.to(torch::kFloat32) : x;
  const Tensor scale = torch::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
  return weight * (wide * scale).to(x.scalar_type());
}

std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x,
                                       const Tensor& y,
                                       const Tensor& weight,
                                       double eps) {
  if (serves_norm(x) && serves_norm(y)) {
    return cuda_add_rms_norm(x, y, weight, eps);
  }
  const Tensor sum = add_rows(x, y);
  return {sum, rms_norm(sum, weight, eps)};
}

Tensor silu_times(const Tensor& gate, const Tensor& up) {
  if (serves_rows(gate) && serves_rows(up)) {
    return cuda_silu_times(gate, up);
  }
  if (!takes_own_loops(gate) || up.stride(-1) != 1) {
    return torch::silu(gate) * up;
  }
  const Tensor out = torch::empty(gate.sizes(), gate.options());
  with_number_type(gate.scalar_type(), [&]<class T>(T*) {
    const int64_t n = gate.size(1);
    for (int64_t t = 0; t < gate.size(0); ++t) {
      kernels<T>().silu_times(const_data<T>(gate) + t * gate.stride(0),
                              const_data<T>(up) + t * up.stride(0),
                              n,
                              mutable_data<T>(out) + t * n);
    }
  });
  return out;
}

Tensor add_rows(const Tensor& x, const Tensor& y) {
  if (!takes_own_loops(x) || !x.is_contiguous() || !y.is_contiguous()) {
    return x + y;
  }
  const Tensor out = torch::empty(x.sizes(), x.options());
  with_number_type(x.scalar_type(), [&]<class T>(T*) {
    kernels<T>().add(const_data<T>(x), const_data<T>(y), x.numel(), mutable_data<T>(out));
  });
  return out;
}

Tensor rotate_halves(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const int64_t head_dim = x.size(-1);
  if (serves_rows(x) && head_dim % 16 == 0 && cos.is_contiguous() && sin.is_contiguous()) {
    return cuda_rotate_halves(x, cos, sin);
  }
  if (!takes_own_loops(x) || x.stride(1) != head_dim || !cos.is_contiguous() ||
      !sin.is_contiguous()) {
    const Tensor turned =
        torch::cat({x.slice(-1, head_dim / 2).neg(), x.slice(-1, 0, head_dim / 2)}, -1);
    return x * cos + turned * sin;
  }
  const Tensor out = torch::empty(x.sizes(), x.options());
  with_number_type(x.scalar_type(), [&]<class T>(T*) {
    const int64_t n_heads = x.size(1);
    for (int64_t t = 0; t < x.size(0); ++t) {
      kernels<T>().rotate(const_data<T>(x) + t * x.stride(0),
                          const_data<T>(cos) + t * head_dim,
                          const_data<T>(sin) + t * head_dim,
                          n_heads,
                          head_dim,
                          mutable_data<T>(out) + t * n_heads * head_dim);
    }
  });
  return out;
}

}  // namespace ssa
