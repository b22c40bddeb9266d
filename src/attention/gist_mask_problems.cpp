#include "attention/gist_mask_problems.h"

namespace ssa {
namespace {

void collect_windows(const Tensor& whole, const GistMaskPlan& plan, const Tensor& windows) {
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

}  // namespace

PlanShape::PlanShape(const Tensor& q, const Tensor& k, const GistMaskPlan& plan)
    : n_sequences(q.size(0) / plan.n_tokens),
      n_tokens(plan.n_tokens),
      n_kv_heads(k.size(1)),
      group(q.size(1) / k.size(1)),
      head_dim(q.size(2)) {}

Tensor take_rows(
    const Tensor& x, const PlanShape& shape, int64_t begin, int64_t end, int64_t n_rows) {
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

void put_rows(
    const Tensor& x, const PlanShape& shape, int64_t begin, int64_t end, const Tensor& rows) {
  x.view({shape.n_sequences, shape.n_tokens, shape.n_kv_heads, shape.group, shape.head_dim})
      .slice(1, begin, end)
      .transpose(1, 2)
      .copy_(rows.slice(1, 0, end - begin).unflatten(0, {shape.n_sequences, shape.n_kv_heads}));
}

Tensor take_keys(const Tensor& x, const PlanShape& shape) {
  return x.view({shape.n_sequences, shape.n_tokens, shape.n_kv_heads, shape.head_dim})
      .transpose(1, 2)
      .reshape({shape.n_batch(), shape.n_tokens, shape.head_dim});
}

Tensor put_keys(const Tensor& keys, const PlanShape& shape, torch::ScalarType dtype) {
  return keys.view({shape.n_sequences, shape.n_kv_heads, shape.n_tokens, shape.head_dim})
      .transpose(1, 2)
      .to(dtype)
      .reshape({shape.n_sequences * shape.n_tokens, shape.n_kv_heads, shape.head_dim});
}

KeyGradients::KeyGradients(const PlanShape& shape, const Tensor& like)
    : k(torch::zeros(
          {shape.n_batch(), shape.n_tokens, shape.head_dim},
          like.options().dtype(torch::promote_types(like.scalar_type(), torch::kFloat32)))),
      v(torch::zeros_like(k)) {}

void KeyGradients::add(const Tensor& indices, const PartialGradients& part) {
  k.index_add_(1, indices, part.k.flatten(1, 2).to(k.scalar_type()));
  v.index_add_(1, indices, part.v.flatten(1, 2).to(v.scalar_type()));
}

void KeyGradients::add_suffix(const GistMaskPlan& plan, const PartialGradients& part) {
  k.slice(1, plan.prefix_end).add_(part.k.squeeze(1));
  v.slice(1, plan.prefix_end).add_(part.v.squeeze(1));
}

void KeyGradients::add_windows(const GistMaskPlan& plan, const PartialGradients& part) {
  collect_windows(k, plan, part.k);
  collect_windows(v, plan, part.v);
}

PlanProblems::PlanProblems(const GistMaskPlan& plan,
                           const PlanShape& shape,
                           const Tensor& k,
                           const Tensor& v,
                           double scale)
    : plan_(plan), shape_(shape), k_(take_keys(k, shape)), v_(take_keys(v, shape)), scale_(scale) {}

PartialInput PlanProblems::near(const Tensor& q) const {
  // Repeated as a mask: a bias that is copied loses the rows' alignment.
  const Tensor visible = plan_.near_visible.repeat_interleave(shape_.group, 1);
  const Tensor bias =
      visible_bias(visible, q.scalar_type()).unsqueeze(0).expand({shape_.n_batch(), -1, -1, -1});
  return input(as_blocks(q), plan_.near_keys, plan_.n_blocks, bias);
}

Tensor PlanProblems::as_blocks(const Tensor& rows) const {
  return rows.flatten(1, 2).unflatten(1, {plan_.n_blocks, plan_.block_rows * shape_.group});
}

Tensor PlanProblems::from_blocks(const Tensor& blocks) const {
  return blocks.flatten(1, 2).unflatten(1, {plan_.n_near_rows(), shape_.group});
}

PartialOutput PlanProblems::attend_far(const Tensor& q) const {
  const PartialOutput far = partial_attention(slots(q));
  Tensor out = from_slots(far.out), lse = from_slots(far.lse);
  if (has_overflow()) {
    const PartialOutput apart = partial_attention(overflow(q));
    put_overflow(out, apart.out);
    put_overflow(lse, apart.lse);
  }
  return {out, lse};
}

Tensor PlanProblems::far_backward(const PlanRows& rows,
                                  const Tensor& d_out,
                                  KeyGradients& keys) const {
  const PartialGradients far = partial_attention_backward(
      slots(rows.q), {as_slots(rows.out), as_slots(rows.lse)}, as_slots(d_out));
  keys.add(plan_.far_keys, far);
  Tensor d_far = from_slots(far.q);
  if (has_overflow()) {
    const PartialGradients apart = partial_attention_backward(
        overflow(rows.q), {as_overflow(rows.out), as_overflow(rows.lse)}, as_overflow(d_out));
    keys.add(plan_.far_keys, apart);
    put_overflow(d_far, apart.q);
  }
  return d_far;
}

PartialInput PlanProblems::slots(const Tensor& q) const {
  PartialInput part = input(as_slots(q), plan_.far_keys, 1, Tensor());
  part.is_causal = true;
  return part;
}

Tensor PlanProblems::as_slots(const Tensor& rows) const {
  const Tensor in_slots = plan_.row_in_slot.defined()
                              ? rows.index_select(1, plan_.row_in_slot)
                              : rows.narrow(1, plan_.far_begin, plan_.n_slots * plan_.slot_rows);
  return in_slots.unflatten(1, {plan_.n_slots, plan_.slot_rows}).flatten(2, 3).transpose(1, 2);
}

Tensor PlanProblems::from_slots(const Tensor& slots) const {
  const Tensor rows =
      slots.transpose(1, 2).unflatten(2, {plan_.slot_rows, shape_.group}).flatten(1, 2);
  return plan_.slot_of_row.defined() ? rows.index_select(1, plan_.slot_of_row) : rows;
}

PartialInput PlanProblems::overflow(const Tensor& q) const {
  const Tensor bias = visible_bias(plan_.overflow_visible, q.scalar_type());
  return input(
      as_overflow(q), plan_.far_keys, 1, bias.expand({shape_.n_batch(), shape_.group, -1, -1}));
}

Tensor PlanProblems::as_overflow(const Tensor& rows) const {
  return rows.index_select(1, plan_.overflow_rows + plan_.far_begin).transpose(1, 2);
}

void PlanProblems::put_overflow(Tensor& far_rows, const Tensor& overflow) const {
  far_rows.index_copy_(1, plan_.overflow_rows, overflow.transpose(1, 2).contiguous());
}

PartialInput PlanProblems::rect(const Tensor& q) const {
  return input(q.transpose(1, 2), plan_.rect_keys, 1, Tensor());
}

PartialInput PlanProblems::suffix_bank(const Tensor& q) const {
  return input(q.transpose(1, 2), plan_.suffix_bank_keys, 1, Tensor());
}

PartialInput PlanProblems::own(const Tensor& q) const {
  const auto suffix = [&](const Tensor& x) { return x.slice(1, plan_.prefix_end).unsqueeze(1); };
  return {q.transpose(1, 2), suffix(k_), suffix(v_), Tensor(), true, scale_};
}

PartialInput PlanProblems::input(Tensor q, const Tensor& keys, int64_t n_heads, Tensor bias) const {
  const auto gather = [&](const Tensor& x) {
    return x.index_select(1, keys).unflatten(1, {n_heads, -1});
  };
  return {std::move(q), gather(k_), gather(v_), std::move(bias), false, scale_};
}

}  // namespace ssa
