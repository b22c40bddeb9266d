// The dense problems that a GistMaskPlan describes, on tensors: how rows and keys become their
// queries, keys and masks, and how outputs and gradients come back. Used by gist_mask_attention.cpp
// alone.
#pragma once

#include "attention/gist_mask_plan.h"
#include "attention/partial_attention.h"

namespace ssa {

/// Tokens by key/value head. A head's group of query heads lies side by side in each row.
struct PlanShape {
  int64_t n_sequences, n_tokens, n_kv_heads, group, head_dim;

  PlanShape(const Tensor& q, const Tensor& k, const GistMaskPlan& plan);
  int64_t n_batch() const { return n_sequences * n_kv_heads; }
};

/// Rows [begin, end) of every sequence of x [n, n_heads, head_dim]: [n_batch, n_rows, group,
/// head_dim], zeros behind the last. n_rows >= end - begin.
Tensor take_rows(
    const Tensor& x, const PlanShape& shape, int64_t begin, int64_t end, int64_t n_rows);
/// The inverse, into x: the first end - begin rows of `rows`.
void put_rows(
    const Tensor& x, const PlanShape& shape, int64_t begin, int64_t end, const Tensor& rows);

/// Keys (values) [n, n_kv_heads, head_dim] by head: [n_batch, n_tokens, head_dim].
Tensor take_keys(const Tensor& x, const PlanShape& shape);
/// The inverse, in another dtype.
Tensor put_keys(const Tensor& keys, const PlanShape& shape, torch::ScalarType dtype);

/// Prefix rows or suffix rows: queries, and what has been attended so far.
struct PlanRows {
  Tensor q;    // [n_batch, n_rows, group, head_dim]
  Tensor out;  // as q
  Tensor lse;  // [n_batch, n_rows, group]
};

/// Gradients of keys and values by head, in float32 or better: [n_batch, n_tokens, head_dim].
struct KeyGradients {
  Tensor k, v;

  KeyGradients(const PlanShape& shape, const Tensor& like);
  /// Of keys at `indices`, each once.
  void add(const Tensor& indices, const PartialGradients& part);
  void add_suffix(const GistMaskPlan& plan, const PartialGradients& part);
  /// Of windows, which overlap: each token collects its copies, so that sums come in one order.
  void add_windows(const GistMaskPlan& plan, const PartialGradients& part);
};

/// The dense problems as views of rows and keys; forward and backward share them. "rows" are
/// [n_batch, n_rows, group, ...]: queries, outputs, their gradients, and without the last dimension
/// log-sum-exps. Refers to plan and shape.
class PlanProblems {
 public:
  PlanProblems(const GistMaskPlan& plan,
               const PlanShape& shape,
               const Tensor& k,
               const Tensor& v,
               double scale);

  // near: a block is a head, and its rows are those of all heads of the group.
  PartialInput near(const Tensor& q) const;
  Tensor as_blocks(const Tensor& rows) const;
  Tensor from_blocks(const Tensor& blocks) const;

  // far, of rows [far_begin, prefix_end) of prefix rows: outputs and log-sum-exps; the gradient of
  // their queries.
  PartialOutput attend_far(const Tensor& q) const;
  Tensor far_backward(const PlanRows& rows, const Tensor& d_out, KeyGradients& keys) const;

  // Suffix rows: the heads of a group are heads.
  PartialInput rect(const Tensor& q) const;
  /// The bank without what the rows' windows hold.
  PartialInput suffix_bank(const Tensor& q) const;
  PartialInput own(const Tensor& q) const;

 private:
  // The rows of a slot and the heads of a group are heads, slots are rows.
  PartialInput slots(const Tensor& q) const;
  Tensor as_slots(const Tensor& rows) const;
  /// Rows [far_begin, prefix_end); those of the overflow hold anything.
  Tensor from_slots(const Tensor& slots) const;
  // Rows that found no place in slots: against the same keys, under a mask; the heads of a group
  // are heads.
  bool has_overflow() const { return plan_.overflow_rows.defined(); }
  PartialInput overflow(const Tensor& q) const;
  Tensor as_overflow(const Tensor& rows) const;
  /// Into rows that from_slots() gave.
  void put_overflow(Tensor& far_rows, const Tensor& overflow) const;

  PartialInput input(Tensor q, const Tensor& keys, int64_t n_heads, Tensor bias) const;

  const GistMaskPlan& plan_;
  const PlanShape& shape_;
  Tensor k_, v_;  // [n_batch, n_tokens, head_dim]
  double scale_;
};

}  // namespace ssa
