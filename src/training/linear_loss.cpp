#include "training/linear_loss.h"

#include <c10/core/DeviceGuard.h>
#include <torch/autograd.h>
#include <algorithm>
#include <functional>
#include <limits>
#include <optional>

#include "base/cuda_kernels.h"
#include "training/cuda/cross_entropy.h"
#include "training/cuda/distillation.h"

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

/// In the dtype of hidden states, without gradients.
OutputRows narrowed(const OutputRows& output, torch::ScalarType dtype) {
  return {output.weight.detach().to(dtype),
          output.tail.defined() ? output.tail.detach().to(dtype) : Tensor()};
}

int64_t in_units(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

Tensor with_rows_in_units(const Tensor& weight, int64_t unit) {
  const int64_t missing = in_units(weight.size(0), unit) - weight.size(0);
  return missing == 0 ? weight : torch::constant_pad_nd(weight, {0, 0, 0, missing});
}

/// Rows of zeros up to a multiple of what the GPU's matrix units take at once: a vocabulary of
/// 49,155 costs three times one of 49,152 otherwise.
OutputRows filled_up(const OutputRows& output, int64_t unit = 64) {
  return output.tail.defined() ? OutputRows(output.weight, with_rows_in_units(output.tail, 8))
                               : OutputRows(with_rows_in_units(output.weight, unit));
}

/// hidden . output^T into the first columns of `logits`.
void write_logits(const Tensor& logits, const Tensor& hidden, const OutputRows& output) {
  const int64_t n_own = output.weight.size(0);
  Tensor own = logits.slice(1, 0, n_own);
  torch::mm_out(own, hidden, output.weight.t());
  if (output.tail.defined()) {
    Tensor behind = logits.slice(1, n_own, output.n_rows());
    torch::mm_out(behind, hidden, output.tail.t());
  }
}

Tensor log_softmax_of(const Tensor& hidden, const OutputRows& output) {
  if (!output.tail.defined()) {
    return torch::linear(hidden, output.weight).log_softmax(-1, wide_type(hidden));
  }
  // Rows of logits start where matrix units want them.
  const int64_t n = output.n_rows();
  const Tensor logits =
      torch::empty({hidden.size(0), in_units(n, 8)}, hidden.options()).slice(1, 0, n);
  write_logits(logits, hidden, output);
  return logits.log_softmax(-1, wide_type(hidden));
}

/// What a few rows' logits give: adds to the loss, and returns the gradient of the logits.
using RowsLoss = std::function<Tensor(
    const Tensor& rows, const OutputRows& output, int64_t first, const Tensor& loss)>;

#ifdef SSA_HAVE_CUDA_KERNELS

bool serves_losses(const Tensor& rows) {
  return uses_cuda_kernels() && rows.is_cuda() && rows.scalar_type() == torch::kBFloat16;
}

/// [n_rows, columns in eights]; those behind the first n_columns, which fill up to what kernels
/// want, have no weight.
Tensor logits_in_eights(const Tensor& rows, const OutputRows& output, int64_t n_columns) {
  const int64_t padded = in_units(output.n_rows(), 8);
  Tensor logits = torch::empty({rows.size(0), padded}, rows.options());
  write_logits(logits, rows, output);
  if (padded > n_columns) {
    logits.slice(1, n_columns).fill_(-std::numeric_limits<float>::infinity());
  }
  return logits;
}

/// A place for each row's loss.
Tensor losses_of(const Tensor& rows) {
  return torch::empty({rows.size(0)}, rows.options().dtype(torch::kFloat32));
}

/// Logits become their gradients in place.
Tensor cuda_cross_entropy(const Tensor& rows,
                          const OutputRows& output,
                          int64_t n_columns,
                          const Tensor& targets,
                          const Tensor& loss) {
  Tensor logits = logits_in_eights(rows, output, n_columns);
  const Tensor losses = losses_of(rows), ids = targets.contiguous();
  const c10::DeviceGuard guard(rows.device());
  const int code = cuda::cross_entropy(logits.mutable_data_ptr(),
                                       ids.const_data_ptr<int64_t>(),
                                       losses.mutable_data_ptr<float>(),
                                       rows.size(0),
                                       logits.size(1),
                                       kCudaStream);
  TORCH_CHECK(code == 0, "cross entropy: CUDA error ", code);
  loss.add_(losses.sum());
  return logits.slice(1, 0, output.n_rows());
}

/// The same; the teacher's logits are dropped.
Tensor cuda_distillation(const Tensor& rows,
                         const OutputRows& output,
                         int64_t n_columns,
                         const Tensor& teacher_rows,
                         const OutputRows& teacher_output,
                         int64_t n_taught,
                         const Tensor& loss) {
  Tensor logits = logits_in_eights(rows, output, n_columns);
  const Tensor losses = losses_of(rows),
               teacher = logits_in_eights(teacher_rows, teacher_output, n_taught);
  const c10::DeviceGuard guard(rows.device());
  const int code = cuda::distillation({.student = logits.mutable_data_ptr(),
                                       .columns = logits.size(1),
                                       .teacher = teacher.const_data_ptr(),
                                       .teacher_columns = teacher.size(1),
                                       .losses = losses.mutable_data_ptr<float>(),
                                       .rows = rows.size(0)},
                                      kCudaStream);
  TORCH_CHECK(code == 0, "distillation: CUDA error ", code);
  loss.add_(losses.sum());
  return logits.slice(1, 0, output.n_rows());
}

#else

bool serves_losses(const Tensor&) {
  return false;
}
Tensor cuda_cross_entropy(const Tensor&, const OutputRows&, int64_t, const Tensor&, const Tensor&) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}
Tensor cuda_distillation(const Tensor&,
                         const OutputRows&,
                         int64_t,
                         const Tensor&,
                         const OutputRows&,
                         int64_t,
                         const Tensor&) {
  TORCH_INTERNAL_ASSERT(false, "built without CUDA kernels");
}

#endif

/// The gradient of a matrix, gathered over blocks of rows; undefined where none is wanted.
class GatheredGradient {
 public:
  /// `used`: the matrix as it is multiplied with, which may have rows behind the matrix's own.
  GatheredGradient(const Tensor& matrix, const Tensor& used, bool wanted) {
    if (wanted && matrix.defined() && matrix.requires_grad()) {
      n_rows_ = matrix.size(0);
      sum_ = torch::zeros(used.sizes(), matrix.options().dtype(wide_type(matrix)));
      type_ = matrix.scalar_type();
    }
  }
  void add(const Tensor& d_logits, const Tensor& rows) {
    if (sum_.defined()) {
      sum_.add_(torch::mm(d_logits.t(), rows));
    }
  }
  Tensor get() const { return sum_.defined() ? sum_.slice(0, 0, n_rows_).to(type_) : sum_; }

 private:
  Tensor sum_;
  int64_t n_rows_ = 0;
  torch::ScalarType type_ = torch::kFloat32;
};

/// Loss, and gradients for a gradient of 1, over blocks of rows. `fills_up`: rows_loss knows of
/// columns that only fill up.
class LossFunction : public torch::autograd::Function<LossFunction> {
 public:
  static Tensor forward(AutogradContext* context,
                        const Tensor& hidden,
                        const Tensor& weight,
                        const std::optional<Tensor>& behind,  // no graph takes undefined tensors
                        const RowsLoss& rows_loss,
                        bool fills_up,
                        bool wants_gradients) {
    const Tensor tail = behind.value_or(Tensor());
    OutputRows narrow = narrowed({weight, tail}, hidden.scalar_type());
    if (fills_up) {
      narrow = filled_up(narrow);
    }
    GatheredGradient d_weight(weight, narrow.weight, wants_gradients),
        d_tail(tail, narrow.tail, wants_gradients);
    const torch::NoGradGuard no_grad;
    const Tensor loss = torch::zeros({}, hidden.options().dtype(wide_type(hidden)));
    const Tensor d_hidden = wants_gradients ? torch::empty_like(hidden) : Tensor();
    const int64_t n_own = narrow.weight.size(0);
    const int64_t block = std::max<int64_t>(1, logits_at_a_time(hidden) / n_own);
    for (int64_t first = 0; first < hidden.size(0); first += block) {
      const Tensor rows = hidden.slice(0, first, first + block);
      const Tensor d_logits = rows_loss(rows, narrow, first, loss).to(hidden.scalar_type());
      if (wants_gradients) {
        const Tensor d_own = d_logits.slice(1, 0, n_own), d_behind = d_logits.slice(1, n_own);
        Tensor d_rows = d_hidden.slice(0, first, first + block);
        torch::mm_out(d_rows, d_own, narrow.weight);
        d_weight.add(d_own, rows);
        if (tail.defined()) {
          d_rows.addmm_(d_behind, narrow.tail);
          d_tail.add(d_behind, rows);
        }
      }
    }
    if (wants_gradients) {
      context->save_for_backward({d_hidden, d_weight.get(), d_tail.get()});
    }
    return loss;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    variable_list scaled = context->get_saved_variables();
    for (Tensor& each : scaled) {
      if (each.defined()) {
        each = each * gradients[0].to(each.scalar_type());
      }
    }
    scaled.resize(6);  // the other arguments have none
    return scaled;
  }
};

Tensor apply_loss(const Tensor& hidden,
                  const OutputRows& output,
                  const RowsLoss& rows_loss,
                  bool fills_up) {
  return LossFunction::apply(hidden,
                             output.weight,
                             output.tail.defined() ? std::optional(output.tail) : std::nullopt,
                             rows_loss,
                             fills_up,
                             torch::GradMode::is_enabled());
}

}  // namespace

Tensor linear_cross_entropy(const Tensor& hidden, const OutputRows& output, const Tensor& targets) {
  const bool by_kernel = serves_losses(hidden);
  const RowsLoss rows_loss =
      [&](const Tensor& rows, const OutputRows& narrow, int64_t first, const Tensor& loss) {
        const Tensor wanted = targets.slice(0, first, first + rows.size(0));
        if (by_kernel) {
          return cuda_cross_entropy(rows, narrow, output.n_rows(), wanted, loss);
        }
        const Tensor log_p = log_softmax_of(rows, narrow), columns = wanted.unsqueeze(1);
        loss.sub_(log_p.gather(1, columns).sum());
        Tensor d_logits = log_p;
        d_logits.exp_();
        return d_logits.scatter_add_(
            1, columns, torch::full_like(columns, -1, log_p.scalar_type()));
      };
  return apply_loss(hidden, output, rows_loss, by_kernel);
}

Tensor linear_distillation(const Tensor& hidden,
                           const OutputRows& output,
                           const Tensor& teacher_hidden,
                           const OutputRows& teacher_output) {
  const bool by_kernel = serves_losses(hidden) && serves_losses(teacher_hidden);
  const int64_t n_taught = teacher_output.n_rows();
  TORCH_CHECK(n_taught <= output.n_rows(), "the teacher's vocabulary is larger than the student's");
  OutputRows narrow = narrowed(teacher_output, teacher_hidden.scalar_type());
  if (by_kernel) {  // by eights alone, so that it never has more columns than the student
    narrow = filled_up(narrow, 8);
  }
  const RowsLoss rows_loss =
      [&](const Tensor& rows, const OutputRows& student, int64_t first, const Tensor& loss) {
        const Tensor taught = teacher_hidden.detach().slice(0, first, first + rows.size(0));
        if (by_kernel) {
          return cuda_distillation(rows, student, output.n_rows(), taught, narrow, n_taught, loss);
        }
        const Tensor log_p = log_softmax_of(rows, student);
        const Tensor teacher_log = log_softmax_of(taught, narrow);
        const Tensor teacher = teacher_log.exp();
        loss.add_((teacher * (teacher_log - log_p.slice(1, 0, n_taught))).sum());
        Tensor d_logits = log_p.exp();
        d_logits.slice(1, 0, n_taught).sub_(teacher);
        return d_logits;
      };
  return apply_loss(hidden, output, rows_loss, by_kernel);
}

}  // namespace ssa
