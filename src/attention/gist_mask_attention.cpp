#include "attention/gist_mask_attention.h"

#include <cmath>
#include <limits>

#include "attention/partial_attention.h"
#include "attention/window_part.h"

namespace ssa {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Tokens by key/value head, as the parts take them. A head's group of query heads lies side by
/// side in each row.
struct Shape {
  int64_t n_sequences, n_tokens, n_kv_heads, group, head_dim;
  int64_t n_batch() const { return n_sequences * n_kv_heads; }
};

Shape shape_of(const Tensor& q, const Tensor& k, const GistMaskPlan& plan) {
  return {q.size(0) / plan.n_tokens, plan.n_tokens, k.size(1), q.size(1) / k.size(1), q.size(2)};
}

/// Rows [begin, end) of queries (outputs, their gradients): [n_batch, n_rows, group, head_dim],
/// zeros behind the last.
Tensor take_rows(const Tensor& x, const Shape& shape, int64_t begin, int64_t end, int64_t n_rows) {
  const Tensor rows =
      x.view({shape.n_sequences, shape.n_tokens, shape.n_kv_heads, shape.group, shape.head_dim})
          .slice(1, begin, end)
          .transpose(1, 2);
  Tensor taken = torch::empty(
      {shape.n_sequences, shape.n_kv_heads, n_rows, shape.group, shape.head_dim}, x.options());
  taken.slice(2, 0, end - begin).copy_(rows);
  taken.slice(2, end - begin).zero_();
  return taken.flatten(0, 1);
}

/// The inverse, into x: the first end - begin rows of `rows`.
void put_rows(const Tensor& x, const Shape& shape, int64_t begin, int64_t end, const Tensor& rows) {
  x.view({shape.n_sequences, shape.n_tokens, shape.n_kv_heads, shape.group, shape.head_dim})
      .slice(1, begin, end)
      .transpose(1, 2)
      .copy_(rows.slice(1, 0, end - begin).unflatten(0, {shape.n_sequences, shape.n_kv_heads}));
}

/// Keys (values) by head: [n_batch, n_tokens, head_dim].
Tensor take_keys(const Tensor& x, const Shape& shape) {
  return x.view({shape.n_sequences, shape.n_tokens, shape.n_kv_heads, shape.head_dim})
      .transpose(1, 2)
      .reshape({shape.n_batch(), shape.n_tokens, shape.head_dim});
}

Tensor put_keys(const Tensor& keys, const Shape& shape, torch::ScalarType dtype) {
  return keys.view({shape.n_sequences, shape.n_kv_heads, shape.n_tokens, shape.head_dim})
      .transpose(1, 2)
      .to(dtype)
      .reshape({shape.n_sequences * shape.n_tokens, shape.n_kv_heads, shape.head_dim});
}

/// 0 where visible, -infinity elsewhere.
Tensor bias_of(const Tensor& visible, torch::ScalarType dtype) {
  constexpr int64_t kUnit = 8;  // rows of a bias start where kernels can load it
  std::vector<int64_t> shape = visible.sizes().vec();
  const int64_t n_columns = shape.back();
  shape.back() = (n_columns + kUnit - 1) / kUnit * kUnit;
  return torch::zeros(shape, torch::dtype(dtype).device(visible.device()))
      .slice(-1, 0, n_columns)
      .masked_fill_(visible.logical_not(), -std::numeric_limits<double>::infinity());
}

/// Prefix rows or suffix rows: queries, and what has been attended so far.
struct Rows {
  Tensor q;    // [n_batch, n_rows, group, head_dim]
  Tensor out;  // as q
  Tensor lse;  // [n_batch, n_rows, group]
};

/// Adds a part to rows [begin, begin + n) of the whole.
void merge(Rows& whole, int64_t begin, const Tensor& out, const Tensor& lse) {
  const int64_t n = out.size(1);
  Tensor whole_out = whole.out.narrow(1, begin, n), whole_lse = whole.lse.narrow(1, begin, n);
  const Tensor share = torch::sigmoid(lse - whole_lse);
  whole_out.lerp_(out, share.to(out.scalar_type()).unsqueeze(-1));
  whole_lse.copy_(torch::logaddexp(whole_lse, lse));
}

/// The dense problems, each as a view of rows and keys; forward and backward share them. "rows" are
/// [n_batch, n_rows, group, ...]: queries, outputs, their gradients, and without the last dimension
/// log-sum-exps.
class Parts {
 public:
  Parts(const GistMaskPlan& plan, const Shape& shape, Tensor k, Tensor v, double scale)
      : plan_(plan), shape_(shape), k_(std::move(k)), v_(std::move(v)), scale_(scale) {}

  // near: a block is a head, and its rows are those of all heads of the group.
  PartialInput near(const Tensor& q) const {
    const Tensor bias = bias_of(plan_.near_visible, q.scalar_type())
                            .repeat_interleave(shape_.group, 1)
                            .unsqueeze(0)
                            .expand({shape_.n_batch(), -1, -1, -1});
    return input(as_blocks(q), plan_.near_keys, plan_.n_blocks, bias);
  }
  Tensor as_blocks(const Tensor& rows) const {
    return rows.flatten(1, 2).unflatten(1, {plan_.n_blocks, plan_.block_rows * shape_.group});
  }
  Tensor from_blocks(const Tensor& blocks) const {
    return blocks.flatten(1, 2).unflatten(1, {plan_.n_near_rows(), shape_.group});
  }

  // far: the rows of a slot and the heads of a group are heads, slots are rows.
  PartialInput far(const Tensor& q) const {
    PartialInput part = input(as_slots(q), plan_.far_keys, 1, Tensor());
    part.is_causal = true;
    return part;
  }
  Tensor as_slots(const Tensor& rows) const {
    const Tensor in_slots = plan_.row_in_slot.defined()
                                ? rows.index_select(1, plan_.row_in_slot)
                                : rows.narrow(1, plan_.far_begin, plan_.n_slots * plan_.slot_rows);
    return in_slots.unflatten(1, {plan_.n_slots, plan_.slot_rows}).flatten(2, 3).transpose(1, 2);
  }
  /// Rows [far_begin, prefix_end); those of the overflow hold anything.
  Tensor from_slots(const Tensor& slots) const {
    const Tensor rows =
        slots.transpose(1, 2).unflatten(2, {plan_.slot_rows, shape_.group}).flatten(1, 2);
    return plan_.slot_of_row.defined() ? rows.index_select(1, plan_.slot_of_row) : rows;
  }

  // overflow: against the same keys, under a mask; the heads of a group are heads.
  bool has_overflow() const { return plan_.overflow_rows.defined(); }
  PartialInput overflow(const Tensor& q) const {
    const Tensor bias = bias_of(plan_.overflow_visible, q.scalar_type());
    return input(
        as_overflow(q), plan_.far_keys, 1, bias.expand({shape_.n_batch(), shape_.group, -1, -1}));
  }
  Tensor as_overflow(const Tensor& rows) const {
    return rows.index_select(1, plan_.overflow_rows + plan_.far_begin).transpose(1, 2);
  }
  /// Into rows that from_slots() gave.
  void put_overflow(Tensor& far_rows, const Tensor& overflow) const {
    far_rows.index_copy_(1, plan_.overflow_rows, overflow.transpose(1, 2).contiguous());
  }

  // Suffix rows: the heads of a group are heads.
  PartialInput rect(const Tensor& q) const {
    return input(q.transpose(1, 2), plan_.rect_keys, 1, Tensor());
  }
  /// Without what their windows hold.
  PartialInput suffix_bank(const Tensor& q) const {
    return input(q.transpose(1, 2), plan_.suffix_bank_keys, 1, Tensor());
  }
  PartialInput own(const Tensor& q) const {
    return {q.transpose(1, 2), suffix(k_), suffix(v_), Tensor(), true, scale_};
  }

 private:
  PartialInput input(Tensor q, const Tensor& keys, int64_t n_heads, Tensor bias) const {
    return {std::move(q),
            gather(k_, keys, n_heads),
            gather(v_, keys, n_heads),
            std::move(bias),
            false,
            scale_};
  }
  Tensor gather(const Tensor& x, const Tensor& keys, int64_t n_heads) const {
    return x.index_select(1, keys).unflatten(1, {n_heads, -1});
  }
  Tensor suffix(const Tensor& x) const { return x.slice(1, plan_.prefix_end).unsqueeze(1); }

  const GistMaskPlan& plan_;
  const Shape& shape_;
  Tensor k_, v_;  // [n_batch, n_tokens, head_dim]
  double scale_;
};

Rows attend_prefix(const Parts& parts, const GistMaskPlan& plan, const Tensor& q) {
  const PartialOutput near = partial_attention(parts.near(q));
  Rows rows{q, parts.from_blocks(near.out).contiguous(), parts.from_blocks(near.lse).contiguous()};
  if (plan.n_slots > 0) {
    const PartialOutput far = partial_attention(parts.far(q));
    Tensor out = parts.from_slots(far.out), lse = parts.from_slots(far.lse);
    if (parts.has_overflow()) {
      const PartialOutput overflow = partial_attention(parts.overflow(q));
      parts.put_overflow(out, overflow.out);
      parts.put_overflow(lse, overflow.lse);
    }
    merge(rows, plan.far_begin, out, lse);
  }
  return rows;
}

Rows attend_suffix(const Parts& parts, const GistMaskPlan& plan, const Tensor& q) {
  const PartialOutput own = partial_attention(parts.own(q));
  Rows rows{q, own.out.transpose(1, 2).contiguous(), own.lse.transpose(1, 2).contiguous()};
  if (plan.rect_keys.numel() > 0) {
    const PartialOutput rect = partial_attention(parts.rect(q));
    merge(rows, 0, rect.out.transpose(1, 2), rect.lse.transpose(1, 2));
  }
  return rows;
}

/// Gradients of keys and values by head, in float32 or better: [n_batch, n_tokens, head_dim].
struct KeyGradients {
  Tensor k, v;

  KeyGradients(const Shape& shape, const Tensor& like)
      : k(torch::zeros(
            {shape.n_batch(), shape.n_tokens, shape.head_dim},
            like.options().dtype(torch::promote_types(like.scalar_type(), torch::kFloat32)))),
        v(torch::zeros_like(k)) {}

  /// Of keys at `indices`, each once.
  void add(const Tensor& indices, const PartialGradients& part) {
    k.index_add_(1, indices, part.k.flatten(1, 2).to(k.scalar_type()));
    v.index_add_(1, indices, part.v.flatten(1, 2).to(v.scalar_type()));
  }
  void add_suffix(const GistMaskPlan& plan, const PartialGradients& part) {
    k.slice(1, plan.prefix_end).add_(part.k.squeeze(1));
    v.slice(1, plan.prefix_end).add_(part.v.squeeze(1));
  }
  /// Of windows, which overlap: each token collects its copies, so that sums come in one order.
  void add_windows(const GistMaskPlan& plan, const PartialGradients& part) {
    add_windows(k, plan, part.k);
    add_windows(v, plan, part.v);
  }

 private:
  static void add_windows(const Tensor& whole, const GistMaskPlan& plan, const Tensor& windows) {
    Tensor prefix = whole.slice(1, 0, plan.prefix_end);
    const Tensor zero = torch::zeros({windows.size(0), 1, windows.size(3)}, windows.options());
    const Tensor columns = torch::cat({windows.flatten(1, 2), zero}, 1);
    for (int64_t copy = 0; copy < plan.near_copies.size(0); ++copy) {
      prefix.add_(columns.index_select(1, plan.near_copies[copy]));
    }
    if (plan.n_sinks > 0) {
      prefix.slice(1, 0, plan.n_sinks)
          .add_(windows.slice(2, 0, plan.n_sinks).sum(1, /*keepdim=*/false, whole.scalar_type()));
    }
  }
};

/// Gradient of the queries of rows [far_begin, prefix_end) through the bank.
Tensor far_backward(const Parts& parts,
                    const GistMaskPlan& plan,
                    const Rows& rows,
                    const Tensor& d_out,
                    KeyGradients& keys) {
  const PartialGradients far =
      partial_attention_backward(parts.far(rows.q),
                                 {parts.as_slots(rows.out), parts.as_slots(rows.lse)},
                                 parts.as_slots(d_out));
  keys.add(plan.far_keys, far);
  Tensor d_far = parts.from_slots(far.q);
  if (parts.has_overflow()) {
    const PartialGradients overflow =
        partial_attention_backward(parts.overflow(rows.q),
                                   {parts.as_overflow(rows.out), parts.as_overflow(rows.lse)},
                                   parts.as_overflow(d_out));
    keys.add(plan.far_keys, overflow);
    parts.put_overflow(d_far, overflow.q);
  }
  return d_far;
}

/// Gradient of the prefix rows' queries.
Tensor prefix_backward(const Parts& parts,
                       const GistMaskPlan& plan,
                       const Rows& rows,
                       const Tensor& d_out,
                       KeyGradients& keys) {
  const PartialGradients near =
      partial_attention_backward(parts.near(rows.q),
                                 {parts.as_blocks(rows.out), parts.as_blocks(rows.lse)},
                                 parts.as_blocks(d_out));
  keys.add_windows(plan, near);
  Tensor d_q = parts.from_blocks(near.q);
  if (plan.n_slots > 0) {
    const Tensor d_far = far_backward(parts, plan, rows, d_out, keys);
    d_q = d_q.contiguous();
    d_q.narrow(1, plan.far_begin, d_far.size(1)).add_(d_far);
  }
  return d_q;
}

Tensor suffix_backward(const Parts& parts,
                       const GistMaskPlan& plan,
                       const Rows& rows,
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
Windows windows_of(const GistMaskPlan& plan, const Shape& shape) {
  const Tensor offsets = torch::arange(
      0, shape.n_sequences * plan.n_tokens + 1, plan.n_tokens, plan.window_begin.options());
  const Tensor starts = offsets.slice(0, 0, shape.n_sequences);
  return {(plan.window_begin.unsqueeze(0) + starts.unsqueeze(1)).flatten(), offsets, plan.n_sinks};
}

/// One level on CUDA: the bank as in the other way, and then all that is near, prefix and suffix,
/// in one kernel that merges as it goes.
class WindowedParts {
 public:
  WindowedParts(const Parts& parts,
                const GistMaskPlan& plan,
                const Shape& shape,
                const WindowTensors& in)
      : parts_(parts), plan_(plan), shape_(shape), in_(in), windows_(windows_of(plan, shape)) {}

  /// [n, n_heads, head_dim], and log-sum-exps [n, n_heads].
  std::pair<Tensor, Tensor> forward() const {
    const Tensor out = torch::empty_like(in_.q);
    const Tensor lse = torch::full({in_.q.size(0), in_.q.size(1)},
                                   -std::numeric_limits<float>::infinity(),
                                   in_.q.options().dtype(torch::kFloat32));
    if (plan_.n_slots > 0) {
      const Tensor q = prefix_rows(in_.q);
      const PartialOutput far = partial_attention(parts_.far(q));
      Tensor far_out = parts_.from_slots(far.out), far_lse = parts_.from_slots(far.lse);
      if (parts_.has_overflow()) {
        const PartialOutput overflow = partial_attention(parts_.overflow(q));
        parts_.put_overflow(far_out, overflow.out);
        parts_.put_overflow(far_lse, overflow.lse);
      }
      put_rows(out, shape_, plan_.far_begin, plan_.prefix_end, far_out);
      put_lse(lse, plan_.far_begin, plan_.prefix_end, far_lse);
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
      const Rows rows{prefix_rows(in_.q),
                      prefix_rows(out),
                      take_lse(lse, 0, plan_.prefix_end, plan_.n_near_rows())};
      const Tensor d_far = far_backward(parts_, plan_, rows, prefix_rows(d_out), keys);
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

  const Parts& parts_;
  const GistMaskPlan& plan_;
  const Shape& shape_;
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
    const Shape shape = shape_of(q, k, *plan);
    const Parts parts(*plan, shape, take_keys(k, shape), take_keys(v, shape), scale);
    if (takes_windows(q, *plan)) {
      const WindowTensors in{q, k, v, scale};
      const auto [whole, lse] = WindowedParts(parts, *plan, shape, in).forward();
      save(context, {q, k, v, whole, lse, Tensor()}, plan, scale);
      return whole;
    }
    Tensor out = torch::empty_like(q, torch::MemoryFormat::Contiguous), prefix_lse, suffix_lse;
    if (plan->prefix_end > 0) {
      const Rows rows = attend_prefix(
          parts, *plan, take_rows(q, shape, 0, plan->prefix_end, plan->n_near_rows()));
      put_rows(out, shape, 0, plan->prefix_end, rows.out);
      prefix_lse = rows.lse;
    }
    if (plan->n_suffix() > 0) {
      const Rows rows = attend_suffix(
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
    const Shape shape = shape_of(q, k, *plan);
    const Parts parts(*plan,
                      shape,
                      take_keys(k, shape),
                      take_keys(v, shape),
                      context->saved_data["scale"].toDouble());
    if (takes_windows(q, *plan)) {
      const WindowTensors in{q, k, v, context->saved_data["scale"].toDouble()};
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
      const Rows rows{rows_of(q, true), rows_of(out, true), saved[4]};
      put_rows(d_q,
               shape,
               0,
               plan->prefix_end,
               prefix_backward(parts, *plan, rows, rows_of(d_out, true), keys));
    }
    if (plan->n_suffix() > 0) {
      const Rows rows{rows_of(q, false), rows_of(out, false), saved[5]};
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
