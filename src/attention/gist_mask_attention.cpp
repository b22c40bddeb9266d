#include "attention/gist_mask_attention.h"

#include <torch/autograd.h>
#include <cmath>
#include <limits>

#include "attention/gist_mask_problems.h"
#include "attention/window_part.h"

namespace ssa {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Adds a part to rows [begin, begin + n) of the whole.
void merge(PlanRows& whole, int64_t begin, const PartialOutput& part) {
  const int64_t n = part.out.size(1);
  Tensor whole_out = whole.out.narrow(1, begin, n), whole_lse = whole.lse.narrow(1, begin, n);
  const Tensor share = torch::sigmoid(part.lse - whole_lse);
  whole_out.lerp_(part.out, share.to(part.out.scalar_type()).unsqueeze(-1));
  whole_lse.copy_(torch::logaddexp(whole_lse, part.lse));
}

PlanRows attend_prefix(const PlanProblems& parts, const GistMaskPlan& plan, const Tensor& q) {
  const PartialOutput near = partial_attention(parts.near(q));
  PlanRows rows{
      q, parts.from_blocks(near.out).contiguous(), parts.from_blocks(near.lse).contiguous()};
  if (plan.n_slots > 0) {
    merge(rows, plan.far_begin, parts.attend_far(q));
  }
  return rows;
}

PlanRows attend_suffix(const PlanProblems& parts, const GistMaskPlan& plan, const Tensor& q) {
  const PartialOutput own = partial_attention(parts.own(q));
  PlanRows rows{q, own.out.transpose(1, 2).contiguous(), own.lse.transpose(1, 2).contiguous()};
  if (plan.rect_keys.numel() > 0) {
    const PartialOutput rect = partial_attention(parts.rect(q));
    merge(rows, 0, {rect.out.transpose(1, 2), rect.lse.transpose(1, 2)});
  }
  return rows;
}

/// Gradient of the prefix rows' queries.
Tensor prefix_backward(const PlanProblems& parts,
                       const GistMaskPlan& plan,
                       const PlanRows& rows,
                       const Tensor& d_out,
                       KeyGradients& keys) {
  const PartialGradients near =
      partial_attention_backward(parts.near(rows.q),
                                 {parts.as_blocks(rows.out), parts.as_blocks(rows.lse)},
                                 parts.as_blocks(d_out));
  keys.add_windows(plan, near);
  Tensor d_q = parts.from_blocks(near.q);
  if (plan.n_slots > 0) {
    const Tensor d_far = parts.far_backward(rows, d_out, keys);
    d_q = d_q.contiguous();
    d_q.narrow(1, plan.far_begin, d_far.size(1)).add_(d_far);
  }
  return d_q;
}

Tensor suffix_backward(const PlanProblems& parts,
                       const GistMaskPlan& plan,
                       const PlanRows& rows,
                       const Tensor& d_out,
                       KeyGradients& keys) {
  const PartialOutput merged{rows.out.transpose(1, 2), rows.lse.transpose(1, 2)};
  const PartialGradients own =
      partial_attention_backward(parts.own(rows.q), merged, d_out.transpose(1, 2));
  keys.add_suffix(plan, own);
  Tensor d_q = own.q.transpose(1, 2);
  if (plan.rect_keys.numel() > 0) {
    const PartialGradients rect =
        partial_attention_backward(parts.rect(rows.q), merged, d_out.transpose(1, 2));
    keys.add(plan.rect_keys, rect);
    d_q = d_q + rect.q.transpose(1, 2);
  }
  return d_q;
}

bool takes_windows(const Tensor& q, const GistMaskPlan& plan) {
  return plan.window_begin.defined() && serves_windows(q, plan.n_sinks);
}

/// Those of all sequences.
Windows windows_of(const GistMaskPlan& plan, const PlanShape& shape) {
  const Tensor offsets = torch::arange(
      0, shape.n_sequences * plan.n_tokens + 1, plan.n_tokens, plan.window_begin.options());
  const Tensor starts = offsets.slice(0, 0, shape.n_sequences);
  return {(plan.window_begin.unsqueeze(0) + starts.unsqueeze(1)).flatten(), offsets, plan.n_sinks};
}

/// One level on CUDA: the bank as in the other way, and then all that is near, prefix and suffix,
/// in one kernel that merges as it goes.
class WindowedParts {
 public:
  WindowedParts(const PlanProblems& parts,
                const GistMaskPlan& plan,
                const PlanShape& shape,
                const WindowTensors& in)
      : parts_(parts), plan_(plan), shape_(shape), in_(in), windows_(windows_of(plan, shape)) {}

  /// [n, n_heads, head_dim], and log-sum-exps [n, n_heads].
  std::pair<Tensor, Tensor> forward() const {
    const Tensor out = torch::empty_like(in_.q);
    const Tensor lse = torch::full({in_.q.size(0), in_.q.size(1)},
                                   -std::numeric_limits<float>::infinity(),
                                   in_.q.options().dtype(torch::kFloat32));
    if (plan_.n_slots > 0) {
      const PartialOutput far = parts_.attend_far(prefix_rows(in_.q));
      put_rows(out, shape_, plan_.far_begin, plan_.prefix_end, far.out);
      put_lse(lse, plan_.far_begin, plan_.prefix_end, far.lse);
    }
    if (has_suffix_bank()) {
      const PartialOutput bank = partial_attention(parts_.suffix_bank(suffix_rows(in_.q)));
      put_rows(out, shape_, plan_.prefix_end, plan_.n_tokens, bank.out.transpose(1, 2));
      put_lse(lse, plan_.prefix_end, plan_.n_tokens, bank.lse.transpose(1, 2));
    }
    attend_windows(in_, windows_, out, lse);
    return {out, lse};
  }

  /// Gradients of q, k and v.
  variable_list backward(const Tensor& out, const Tensor& lse, const Tensor& d_out) const {
    const Tensor d_q = torch::zeros_like(in_.q);
    KeyGradients keys(shape_, in_.k);
    if (plan_.n_slots > 0) {
      const PlanRows rows{prefix_rows(in_.q),
                          prefix_rows(out),
                          take_lse(lse, 0, plan_.prefix_end, plan_.n_near_rows())};
      const Tensor d_far = parts_.far_backward(rows, prefix_rows(d_out), keys);
      put_rows(d_q, shape_, plan_.far_begin, plan_.prefix_end, d_far);
    }
    if (has_suffix_bank()) {
      const PartialGradients bank = partial_attention_backward(
          parts_.suffix_bank(suffix_rows(in_.q)),
          {suffix_rows(out).transpose(1, 2),
           take_lse(lse, plan_.prefix_end, plan_.n_tokens, plan_.n_suffix()).transpose(1, 2)},
          suffix_rows(d_out).transpose(1, 2));
      keys.add(plan_.suffix_bank_keys, bank);
      put_rows(d_q, shape_, plan_.prefix_end, plan_.n_tokens, bank.q.transpose(1, 2));
    }
    const WindowGradients near = windows_backward(in_, windows_, out, lse, d_out, d_q);
    const auto whole = [&](const Tensor& bank, const Tensor& windows) {
      return (put_keys(bank, shape_, torch::kFloat32) + windows).to(torch::kBFloat16);
    };
    return {d_q, whole(keys.k, near.k), whole(keys.v, near.v)};
  }

 private:
  bool has_suffix_bank() const { return plan_.suffix_bank_keys.numel() > 0; }
  Tensor prefix_rows(const Tensor& x) const {
    return take_rows(x, shape_, 0, plan_.prefix_end, plan_.n_near_rows());
  }
  Tensor suffix_rows(const Tensor& x) const {
    return take_rows(x, shape_, plan_.prefix_end, plan_.n_tokens, plan_.n_suffix());
  }
  Tensor lse_view(const Tensor& lse) const {
    return lse.view({shape_.n_sequences, shape_.n_tokens, shape_.n_kv_heads, shape_.group})
        .transpose(1, 2);
  }
  void put_lse(const Tensor& lse, int64_t begin, int64_t end, const Tensor& rows) const {
    lse_view(lse)
        .slice(2, begin, end)
        .copy_(rows.unflatten(0, {shape_.n_sequences, shape_.n_kv_heads}));
  }
  Tensor take_lse(const Tensor& lse, int64_t begin, int64_t end, int64_t n_rows) const {
    return torch::constant_pad_nd(lse_view(lse).slice(2, begin, end),
                                  {0, 0, 0, n_rows - (end - begin)})
        .flatten(0, 1);
  }

  const PlanProblems& parts_;
  const GistMaskPlan& plan_;
  const PlanShape& shape_;
  const WindowTensors& in_;
  Windows windows_;
};

class GistMaskFunction : public torch::autograd::Function<GistMaskFunction> {
 public:
  static Tensor forward(AutogradContext* context,
                        const Tensor& q,
                        const Tensor& k,
                        const Tensor& v,
                        const GistMaskPlanPtr& plan,
                        double scale) {
    const PlanShape shape(q, k, *plan);
    const PlanProblems parts(*plan, shape, k, v, scale);
    if (takes_windows(q, *plan)) {
      const WindowTensors in{q, k, v, scale};
      const auto [whole, lse] = WindowedParts(parts, *plan, shape, in).forward();
      save(context, {q, k, v, whole, lse, Tensor()}, plan, scale);
      return whole;
    }
    Tensor out = torch::empty_like(q, torch::MemoryFormat::Contiguous), prefix_lse, suffix_lse;
    if (plan->prefix_end > 0) {
      const PlanRows rows = attend_prefix(
          parts, *plan, take_rows(q, shape, 0, plan->prefix_end, plan->n_near_rows()));
      put_rows(out, shape, 0, plan->prefix_end, rows.out);
      prefix_lse = rows.lse;
    }
    if (plan->n_suffix() > 0) {
      const PlanRows rows = attend_suffix(
          parts, *plan, take_rows(q, shape, plan->prefix_end, plan->n_tokens, plan->n_suffix()));
      put_rows(out, shape, plan->prefix_end, plan->n_tokens, rows.out);
      suffix_lse = rows.lse;
    }
    save(context, {q, k, v, out, prefix_lse, suffix_lse}, plan, scale);
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3];
    const auto plan =
        c10::static_intrusive_pointer_cast<GistMaskPlan>(context->saved_data["plan"].toCapsule());
    const PlanShape shape(q, k, *plan);
    const double scale = context->saved_data["scale"].toDouble();
    const PlanProblems parts(*plan, shape, k, v, scale);
    if (takes_windows(q, *plan)) {
      const WindowTensors in{q, k, v, scale};
      variable_list inputs =
          WindowedParts(parts, *plan, shape, in).backward(out, saved[4], gradients[0].contiguous());
      inputs.resize(5);
      return inputs;
    }
    KeyGradients keys(shape, k);
    const Tensor d_q = torch::empty_like(q, torch::MemoryFormat::Contiguous);
    const Tensor d_out = gradients[0].contiguous();
    const auto rows_of = [&](const Tensor& x, bool prefix) {
      return prefix ? take_rows(x, shape, 0, plan->prefix_end, plan->n_near_rows())
                    : take_rows(x, shape, plan->prefix_end, plan->n_tokens, plan->n_suffix());
    };
    if (plan->prefix_end > 0) {
      const PlanRows rows{rows_of(q, true), rows_of(out, true), saved[4]};
      put_rows(d_q,
               shape,
               0,
               plan->prefix_end,
               prefix_backward(parts, *plan, rows, rows_of(d_out, true), keys));
    }
    if (plan->n_suffix() > 0) {
      const PlanRows rows{rows_of(q, false), rows_of(out, false), saved[5]};
      put_rows(d_q,
               shape,
               plan->prefix_end,
               plan->n_tokens,
               suffix_backward(parts, *plan, rows, rows_of(d_out, false), keys));
    }
    return {d_q,
            put_keys(keys.k, shape, k.scalar_type()),
            put_keys(keys.v, shape, v.scalar_type()),
            Tensor(),
            Tensor()};
  }

 private:
  static void save(AutogradContext* context,
                   variable_list tensors,
                   const GistMaskPlanPtr& plan,
                   double scale) {
    context->save_for_backward(std::move(tensors));
    context->saved_data["plan"] = c10::IValue::make_capsule(plan);
    context->saved_data["scale"] = scale;
  }
};

}  // namespace

Tensor gist_mask_attention(
    const Tensor& q, const Tensor& k, const Tensor& v, const GistMaskPlanPtr& plan, double scale) {
  TORCH_CHECK(q.dim() == 3 && k.dim() == 3 && k.sizes() == v.sizes() && q.size(0) == k.size(0) &&
                  plan->n_tokens > 0 && q.size(0) % plan->n_tokens == 0 &&
                  q.size(1) % k.size(1) == 0,
              "gist_mask_attention: q ",
              q.sizes(),
              ", k ",
              k.sizes(),
              ", v ",
              v.sizes(),
              " for sequences of ",
              plan->n_tokens,
              " tokens");
  return GistMaskFunction::apply(q.contiguous(), k.contiguous(), v.contiguous(), plan, scale);
}

}  // namespace ssa
