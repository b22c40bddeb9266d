#include "training/linear_loss.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "base/cuda_kernels.h"
#include "training/cuda/cross_entropy.h"

namespace ssa {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Numbers of logits held at a time: few enough for caches to help on the CPU, enough to fill a
/// GPU.
int64_t logits_at_a_time(const Tensor& hidden) {
  return int64_t{1} << (hidden.is_cuda() ? 28 : 24);
}

torch::ScalarType wide_type(const Tensor& x) {
  return torch::promote_types(x.scalar_type(), torch::kFloat32);
}

Tensor log_softmax_of(const Tensor& hidden, const Tensor& weight) {
  return torch::linear(hidden, weight).log_softmax(-1, wide_type(hidden));
}

/// What a few rows' logits give: adds to the loss, and returns the gradient of the logits.
using RowsLoss = std::function<Tensor(
    const Tensor& rows, const Tensor& weight, int64_t first, const Tensor& loss)>;

#ifdef SSA_HAVE_CUDA_KERNELS

bool serves_cross_entropy(const Tensor& rows) {
  return uses_cuda_kernels() && rows.is_cuda() && rows.scalar_type() == torch::kBFloat16;
}

/// Logits become their gradients in place. The kernel wants columns in eights: others are made up,
/// with no weight.
Tensor cuda_cross_entropy(const Tensor& rows,
                          const Tensor& weight,
                          const Tensor& targets,
                          const Tensor& loss) {
  constexpr int64_t kUnit = 8;
  const int64_t n = weight.size(0), padded = (n + kUnit - 1) / kUnit * kUnit;
  Tensor logits = torch::empty({rows.size(0), padded}, rows.options());
  if (padded == n) {
    torch::mm_out(logits, rows, weight.t());
  } else {
    logits.slice(1, 0, n).copy_(torch::mm(rows, weight.t()));
    logits.slice(1, n).fill_(-std::numeric_limits<float>::infinity());
  }
  const Tensor losses = torch::empty({rows.size(0)}, rows.options().dtype(torch::kFloat32)),
               ids = targets.contiguous();
  const int code = cuda::cross_entropy(logits.mutable_data_ptr(),
                                       ids.const_data_ptr<int64_t>(),
                                       losses.mutable_data_ptr<float>(),
                                       rows.size(0),
                                       padded,
                                       kCudaStream);
  TORCH_CHECK(code == 0, "cross entropy: CUDA error ", code);
  loss.add_(losses.sum());
  return logits.slice(1, 0, n);
}

#else

bool serves_cross_entropy(const Tensor&) {
  return false;
}
Tensor cuda_cross_entropy(const Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}

#endif

/// Loss, and gradients for a gradient of 1, over blocks of rows.
class LossFunction : public torch::autograd::Function<LossFunction> {
 public:
  static Tensor forward(AutogradContext* context,
                        const Tensor& hidden,
                        const Tensor& weight,
                        const RowsLoss& rows_loss,
                        bool wants_gradients) {
    const torch::NoGradGuard no_grad;
    const Tensor narrow = weight.to(hidden.scalar_type());
    const Tensor loss = torch::zeros({}, hidden.options().dtype(wide_type(hidden)));
    const Tensor d_hidden = wants_gradients ? torch::empty_like(hidden) : Tensor();
    const Tensor d_weight =
        wants_gradients ? torch::zeros(weight.sizes(), weight.options().dtype(wide_type(weight)))
                        : Tensor();
    const int64_t block = std::max<int64_t>(1, logits_at_a_time(hidden) / weight.size(0));
    for (int64_t first = 0; first < hidden.size(0); first += block) {
      const Tensor rows = hidden.slice(0, first, first + block);
      const Tensor d_logits = rows_loss(rows, narrow, first, loss).to(hidden.scalar_type());
      if (wants_gradients) {
        Tensor d_rows = d_hidden.slice(0, first, first + block);
        torch::mm_out(d_rows, d_logits, narrow);
        d_weight.add_(torch::mm(d_logits.t(), rows));
      }
    }
    if (wants_gradients) {
      context->save_for_backward({d_hidden, d_weight.to(weight.scalar_type())});
    }
    return loss;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor& scale = gradients[0];
    return {saved[0] * scale.to(saved[0].scalar_type()),
            saved[1] * scale.to(saved[1].scalar_type()),
            Tensor(),
            Tensor()};
  }
};

}  // namespace

Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& targets) {
  const RowsLoss rows_loss =
      [&](const Tensor& rows, const Tensor& narrow, int64_t first, const Tensor& loss) {
        const Tensor wanted = targets.slice(0, first, first + rows.size(0));
        if (serves_cross_entropy(rows)) {
          return cuda_cross_entropy(rows, narrow, wanted, loss);
        }
        const Tensor log_p = log_softmax_of(rows, narrow), columns = wanted.unsqueeze(1);
        loss.sub_(log_p.gather(1, columns).sum());
        Tensor d_logits = log_p;
        d_logits.exp_();
        return d_logits.scatter_add_(
            1, columns, torch::full_like(columns, -1, log_p.scalar_type()));
      };
  return LossFunction::apply(hidden, weight, rows_loss, torch::GradMode::is_enabled());
}

Tensor linear_distillation(const Tensor& hidden,
                           const Tensor& weight,
                           const Tensor& teacher_hidden,
                           const Tensor& teacher_weight) {
  const Tensor narrow = teacher_weight.detach().to(teacher_hidden.scalar_type());
  const RowsLoss rows_loss =
      [&](const Tensor& rows, const Tensor& student_weight, int64_t first, const Tensor& loss) {
        const Tensor log_p = log_softmax_of(rows, student_weight);
        const Tensor teacher_log =
            log_softmax_of(teacher_hidden.detach().slice(0, first, first + log_p.size(0)), narrow);
        const Tensor teacher = teacher_log.exp();
        loss.add_((teacher * (teacher_log - log_p)).sum());
        return log_p.exp().sub_(teacher);
      };
  return LossFunction::apply(hidden, weight, rows_loss, torch::GradMode::is_enabled());
}

}  // namespace ssa
