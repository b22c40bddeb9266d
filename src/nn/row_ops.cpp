#include "nn/row_ops.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "nn/cpu/row_kernels.h"
#include "nn/cuda_row_ops.h"
#include "nn/number_type.h"

namespace ssa {
namespace {

bool takes_own_loops(const Tensor& x) {
  return !torch::GradMode::is_enabled() && x.device().is_cpu() &&
         has_number_type(x.scalar_type()) && x.stride(-1) == 1;
}

/// Calls fn(row) for n rows of `width` numbers, shared among threads where there is much to do.
template <class Fn>
void share_rows(int64_t n, int64_t width, const Fn& fn) {
  constexpr int64_t kFewNumbers = int64_t{1} << 15;  // passed over while a thread wakes up
  const int64_t grain = std::max<int64_t>(1, kFewNumbers / std::max<int64_t>(width, 1));
  at::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      fn(row);
    }
  });
}

template <class T>
const cpu::RowKernels<T>& kernels() {
  return cpu::row_kernels<T>(instruction_set());
}

bool serves_rotation(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const auto type = cos.scalar_type();
  return serves_rows(x) && x.size(-1) % 16 == 0 && cos.is_contiguous() && sin.is_contiguous() &&
         cos.numel() == x.size(0) * x.size(-1) && sin.numel() == cos.numel() &&
         (type == torch::kFloat32 || type == torch::kBFloat16) && sin.scalar_type() == type;
}

/// Calls fn(row of x, row of out) for all rows of the last dimension. x has two or three; out is
/// contiguous.
template <class T, class Fn>
void for_each_row(const Tensor& x, const Tensor& out, const Fn& fn) {
  const bool has_heads = x.dim() == 3;
  const int64_t n_heads = has_heads ? x.size(1) : 1, head_stride = has_heads ? x.stride(1) : 0;
  const T* from = const_data<T>(x);
  T* to = mutable_data<T>(out);
  const int64_t width = x.size(-1), token_stride = x.stride(0);
  share_rows(x.size(0), n_heads * width, [&](int64_t t) {
    for (int64_t h = 0; h < n_heads; ++h) {
      fn(from + t * token_stride + h * head_stride, to + (t * n_heads + h) * width);
    }
  });
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

std::pair<Tensor, Tensor> rms_norm_beside(const Tensor& x, const Tensor& weight, double eps) {
  if (serves_norm(x)) {
    return cuda_rms_norm_beside(x, weight, eps);
  }
  return {x, rms_norm(x, weight, eps)};
}

std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x,
                                       const Tensor& y,
                                       const Tensor& weight,
                                       double eps) {
  if (serves_norm(x) && serves_norm(y) && x.sizes() == y.sizes()) {
    return cuda_add_rms_norm(x, y, weight, eps);
  }
  const Tensor sum = add_rows(x, y);
  return {sum, rms_norm(sum, weight, eps)};
}

Tensor silu_times(const Tensor& gate, const Tensor& up) {
  if (serves_rows(gate) && serves_rows(up) && gate.dim() == 2 && gate.sizes() == up.sizes()) {
    return cuda_silu_times(gate, up);
  }
  if (!takes_own_loops(gate) || up.stride(-1) != 1) {
    return torch::silu(gate) * up;
  }
  const Tensor out = torch::empty(gate.sizes(), gate.options());
  with_number_type(gate.scalar_type(), [&]<class T>(T*) {
    const int64_t n = gate.size(1), gate_stride = gate.stride(0), up_stride = up.stride(0);
    const T *gates = const_data<T>(gate), *ups = const_data<T>(up);
    T* to = mutable_data<T>(out);
    share_rows(gate.size(0), 2 * n, [&](int64_t t) {
      kernels<T>().silu_times(gates + t * gate_stride, ups + t * up_stride, n, to + t * n);
    });
  });
  return out;
}

Tensor silu_times(const Tensor& gate_up) {
  const int64_t n = gate_up.size(1) / 2;
  const Tensor gate = gate_up.narrow(1, 0, n), up = gate_up.narrow(1, n, n);
  return serves_rows(gate) && serves_rows(up) ? cuda_silu_times(gate_up) : silu_times(gate, up);
}

Tensor add_rows(const Tensor& x, const Tensor& y) {
  if (!takes_own_loops(x) || !x.is_contiguous() || !y.is_contiguous()) {
    return x + y;
  }
  const Tensor out = torch::empty(x.sizes(), x.options());
  with_number_type(x.scalar_type(), [&]<class T>(T*) {
    const int64_t width = x.size(-1);
    const T *a = const_data<T>(x), *b = const_data<T>(y);
    T* to = mutable_data<T>(out);
    share_rows(width == 0 ? 0 : x.numel() / width, 2 * width, [&](int64_t row) {
      kernels<T>().add(a + row * width, b + row * width, width, to + row * width);
    });
  });
  return out;
}

Tensor rotate_halves(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const int64_t head_dim = x.size(-1);
  if (serves_rotation(x, cos, sin)) {
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
    const int64_t n_heads = x.size(1), width = n_heads * head_dim, stride = x.stride(0);
    const T *from = const_data<T>(x), *cosines = const_data<T>(cos), *sines = const_data<T>(sin);
    T* to = mutable_data<T>(out);
    share_rows(x.size(0), width, [&](int64_t t) {
      kernels<T>().rotate(from + t * stride,
                          cosines + t * head_dim,
                          sines + t * head_dim,
                          n_heads,
                          head_dim,
                          to + t * width);
    });
  });
  return out;
}

std::array<Tensor, 3> rotate_parts(
    const Tensor& qkv, int64_t n_heads, int64_t n_kv_heads, const Tensor& cos, const Tensor& sin) {
  const Tensor heads = qkv.unflatten(1, {n_heads + 2 * n_kv_heads, -1});
  if (serves_rotation(heads, cos, sin)) {
    return cuda_rotate_parts(qkv, n_heads, n_kv_heads, cos, sin);
  }
  return {rotate_halves(heads.narrow(1, 0, n_heads), cos, sin),
          rotate_halves(heads.narrow(1, n_heads, n_kv_heads), cos, sin),
          heads.narrow(1, n_heads + n_kv_heads, n_kv_heads)};
}

}  // namespace ssa
