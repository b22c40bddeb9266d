#include "attention/gist_mask_batch.h"

#include <torch/autograd.h>
#include <limits>
#include <vector>

#include "attention/partial_attention.h"
#include "attention/window_part.h"

namespace ssa {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kInfiniteScore = std::numeric_limits<double>::infinity();

/// Rows of all key/value heads: index row * n_kv_heads + head of a table of rows, heads behind the
/// first dimension.
Tensor rows_by_head(const Tensor& rows, int64_t n_kv_heads) {
  const Tensor heads = torch::arange(n_kv_heads, rows.options());
  std::vector<int64_t> shape(static_cast<size_t>(rows.dim()) + 1, 1);
  shape[1] = n_kv_heads;
  return rows.unsqueeze(1) * n_kv_heads + heads.view(shape);
}

}  // namespace

/// Rows of x [n_tokens, n_heads, ...] are those of its view [n_tokens * n_kv_heads, group, ...].
/// Places are rows of what partial_attention() returns, heads before rows.
struct GistMaskBatch::ByHead {
  /// Of BankSlots and RowsWithKeys alike; rows... is [n_slots, slot_rows] or [rows].
  struct Lists {
    Tensor rows, pads;   // [n, n_kv_heads, rows...], and 1
    Tensor keys;         // [n, n_kv_heads, keys]
    Tensor from, to;     // [all rows * n_kv_heads] places, and rows
    Tensor key_visible;  // [n * n_kv_heads, 1, 1, keys] bool; undefined for slots
  };

  ByHead(const GistMaskBatch& batch, int64_t heads) : n_kv_heads(heads) {
    for (const BankSlots& each : batch.slots) {
      slots.push_back(spread(each));
    }
    for (const RowsWithKeys& each : batch.suffixes) {
      suffixes.push_back(spread_with_pads(each));
    }
    for (const RowsWithKeys& each : batch.sections) {
      sections.push_back(spread_with_pads(each));
    }
  }

  int64_t n_kv_heads;
  std::vector<Lists> slots, suffixes, sections;

 private:
  template <class Rows>
  Lists spread(const Rows& of) const {
    Lists lists;
    lists.rows = rows_by_head(of.rows, n_kv_heads);
    lists.pads = of.row_pads.unsqueeze(1).expand(lists.rows.sizes()).unsqueeze(-1);
    lists.keys = rows_by_head(of.keys, n_kv_heads);
    const int64_t n_places = of.rows[0].numel();  // heads lie between list and place
    const Tensor heads = torch::arange(n_kv_heads, of.rows.options()),
                 list = of.places.div(n_places, "floor").unsqueeze(1),
                 within = of.places.remainder(n_places).unsqueeze(1);
    lists.from = ((list * n_kv_heads + heads) * n_places + within).flatten();
    const Tensor rows = of.rows.flatten().index_select(0, of.places).unsqueeze(1);
    lists.to = (rows * n_kv_heads + heads).flatten();
    return lists;
  }
  Lists spread_with_pads(const RowsWithKeys& of) const {
    Lists lists = spread(of);
    lists.key_visible =
        of.key_pads.logical_not().repeat_interleave(n_kv_heads, 0).unsqueeze(1).unsqueeze(1);
    return lists;
  }
};

namespace {

const GistMaskBatch::ByHead& index_of(const GistMaskBatch& batch, int64_t n_kv_heads) {
  if (!batch.by_head || batch.by_head->n_kv_heads != n_kv_heads) {
    batch.by_head = std::make_shared<GistMaskBatch::ByHead>(batch, n_kv_heads);
  }
  return *batch.by_head;
}

/// The problems over gists, for one q, k and v.
class BankProblems {
 public:
  using Lists = GistMaskBatch::ByHead::Lists;

  BankProblems(const GistMaskBatch& batch, const WindowTensors& in)
      : in_(in),
        index_(index_of(batch, in.k.size(1))),
        n_kv_heads_(in.k.size(1)),
        group_(in.q.size(1) / n_kv_heads_),
        wide_(torch::promote_types(in.q.scalar_type(), torch::kFloat32)) {}

  /// [n_tokens, n_heads, head_dim] and [n_tokens, n_heads]; -infinity where no gist was seen.
  std::pair<Tensor, Tensor> forward() const {
    const Tensor out = torch::empty_like(in_.q);
    const Tensor lse =
        torch::full({in_.q.size(0), in_.q.size(1)}, -kInfiniteScore, in_.q.options().dtype(wide_));
    const auto put_both = [&](const Lists& lists, const PartialOutput& part) {
      put(out, lists, part.out.transpose(1, 2));
      put(lse, lists, part.lse.transpose(1, 2));
    };
    for (const Lists& lists : index_.slots) {
      put_both(lists, partial_attention(slots(lists)));
    }
    for (const Lists& lists : index_.suffixes) {
      put_both(lists, partial_attention(suffix(lists)));
    }
    for (const Lists& lists : index_.sections) {
      merge_section(out, lse, lists, partial_attention(section(lists)));
    }
    return {out, lse};
  }

  /// Gradient of q, and those of keys and values, float32 or better, [n_tokens, n_kv_heads,
  /// head_dim].
  struct Gradients {
    Tensor q, k, v;
  };
  Gradients backward(const Tensor& out, const Tensor& lse, const Tensor& d_out) const {
    const auto options = in_.k.options().dtype(wide_);
    const Gradients gradients{torch::zeros_like(in_.q),
                              torch::zeros(in_.k.sizes(), options),
                              torch::zeros(in_.v.sizes(), options)};
    // Rows that only fill up get a log-sum-exp that leaves them no weight.
    const auto padded_lse = [&](const Lists& lists) {
      return take(lse, lists.rows).masked_fill_(lists.pads, kInfiniteScore);
    };
    const auto add = [&](const Lists& lists, const PartialInput& problem, auto view) {
      const PartialGradients part =
          partial_attention_backward(problem,
                                     {view(take(out, lists.rows)), view(padded_lse(lists))},
                                     view(take(d_out, lists.rows)));
      put(gradients.q, lists, part.q.transpose(1, 2));
      add_keys(gradients, lists.keys, part);
    };
    for (const Lists& lists : index_.slots) {
      add(lists, slots(lists), slot_view);
    }
    for (const Lists& lists : index_.suffixes) {
      add(lists, suffix(lists), suffix_view);
    }
    for (const Lists& lists : index_.sections) {
      const PartialGradients part = partial_attention_backward(
          section(lists),
          {section_view(take(out, lists.rows)).to(wide_), section_view(padded_lse(lists))},
          section_view(take(d_out, lists.rows)).to(wide_));
      by_row(gradients.q)
          .index_add_(0, lists.to, listed_rows(lists, part.q).to(in_.q.scalar_type()));
      add_keys(gradients, lists.keys, part);
    }
    return gradients;
  }

 private:
  PartialInput slots(const Lists& lists) const {
    return {slot_view(take(in_.q, lists.rows)),
            keys(in_.k, lists.keys),
            keys(in_.v, lists.keys),
            Tensor(),
            true,
            in_.scale};
  }
  PartialInput suffix(const Lists& lists) const {
    return {suffix_view(take(in_.q, lists.rows)),
            keys(in_.k, lists.keys),
            keys(in_.v, lists.keys),
            visible_bias(lists.key_visible, in_.q.scalar_type()),
            false,
            in_.scale};
  }
  /// Thousands of tiny problems: plain products, in float32 or better.
  PartialInput section(const Lists& lists) const {
    PartialInput part{section_view(take(in_.q, lists.rows)).to(wide_),
                      keys(in_.k, lists.keys).to(wide_),
                      keys(in_.v, lists.keys).to(wide_),
                      visible_bias(lists.key_visible, wide_),
                      false,
                      in_.scale};
    part.is_tiny = true;
    return part;
  }

  /// [n_tokens, n_heads, ...] as [n_tokens * n_kv_heads, group, ...].
  Tensor by_row(const Tensor& x) const {
    std::vector<int64_t> shape{x.size(0) * n_kv_heads_, group_};
    shape.insert(shape.end(), x.sizes().begin() + 2, x.sizes().end());
    return x.view(shape);
  }
  /// x [n_tokens, n_heads, ...] at an index of rows by head: [index..., group, ...].
  Tensor take(const Tensor& x, const Tensor& index) const {
    std::vector<int64_t> shape = index.sizes().vec();
    shape.push_back(group_);
    shape.insert(shape.end(), x.sizes().begin() + 2, x.sizes().end());
    return x.view({x.size(0) * n_kv_heads_, -1}).index_select(0, index.flatten()).view(shape);
  }

  // What was taken, [n, n_kv_heads, rows..., group, ...], as partial_attention() wants it.

  /// Slots are rows, their rows heads: [n * n_kv_heads, slot_rows * group, n_slots, ...].
  static Tensor slot_view(const Tensor& x) { return x.flatten(3, 4).flatten(0, 1).transpose(1, 2); }
  /// [n * n_kv_heads, group, rows, ...].
  static Tensor suffix_view(const Tensor& x) { return x.flatten(0, 1).transpose(1, 2); }
  /// [n * n_kv_heads, 1, rows * group, ...].
  static Tensor section_view(const Tensor& x) { return x.flatten(2, 3).flatten(0, 1).unsqueeze(1); }
  /// And back, without padding: x of any shape that is [n, n_kv_heads, rows..., group, rest...] in
  /// order, to [all rows * n_kv_heads, group, rest...].
  Tensor listed_rows(const Lists& lists, const Tensor& x) const {
    std::vector<int64_t> shape{lists.rows.numel(), group_};
    if (x.numel() != lists.rows.numel() * group_) {
      shape.push_back(-1);
    }
    return x.reshape(shape).index_select(0, lists.from);
  }
  void put(const Tensor& whole, const Lists& lists, const Tensor& x) const {
    by_row(whole).index_copy_(0, lists.to, listed_rows(lists, x));
  }

  /// Adds a part to what was seen so far; where that is nothing `out` may hold anything.
  void merge_section(const Tensor& out,
                     const Tensor& lse,
                     const Lists& lists,
                     const PartialOutput& part) const {
    const Tensor seen = by_row(lse).index_select(0, lists.to), more = listed_rows(lists, part.lse),
                 both = torch::logaddexp(seen, more), share = (more - both).exp_().unsqueeze(-1);
    const Tensor so_far =
        by_row(out).index_select(0, lists.to).to(wide_).masked_fill_(seen.isinf().unsqueeze(-1), 0);
    const Tensor merged = so_far.lerp(listed_rows(lists, part.out), share);
    by_row(out).index_copy_(0, lists.to, merged.to(out.scalar_type()));
    by_row(lse).index_copy_(0, lists.to, both);
  }

  /// [n * n_kv_heads, 1, n_keys, head_dim].
  static Tensor keys(const Tensor& x, const Tensor& index) {
    return x.view({-1, x.size(2)})
        .index_select(0, index.flatten())
        .view({index.size(0) * index.size(1), 1, index.size(2), x.size(2)});
  }
  static void add_keys(const Gradients& gradients,
                       const Tensor& index,
                       const PartialGradients& part) {
    const Tensor flat = index.flatten();
    for (const auto& [whole, of_part] :
         {std::pair(gradients.k, part.k), std::pair(gradients.v, part.v)}) {
      whole.view({-1, whole.size(2)})
          .index_add_(0, flat, of_part.reshape({-1, whole.size(2)}).to(whole.scalar_type()));
    }
  }

  const WindowTensors& in_;
  const GistMaskBatch::ByHead& index_;
  int64_t n_kv_heads_, group_;
  torch::ScalarType wide_;
};

Windows windows_of(const GistMaskBatch& batch) {
  return {batch.window_begin, batch.offsets, batch.n_sinks};
}

class BatchFunction : public torch::autograd::Function<BatchFunction> {
 public:
  static Tensor forward(AutogradContext* context,
                        const Tensor& q,
                        const Tensor& k,
                        const Tensor& v,
                        const GistMaskBatchPtr& batch,
                        double scale) {
    const WindowTensors in{q, k, v, scale};
    const auto [out, lse] = BankProblems(*batch, in).forward();
    if (batch->no_window.defined()) {
      const Tensor& rows = batch->no_window;
      const Tensor whole = out.index_select(0, rows), whole_lse = lse.index_select(0, rows);
      attend_windows(in, windows_of(*batch), out, lse);
      Tensor(out).index_copy_(0, rows, whole);
      Tensor(lse).index_copy_(0, rows, whole_lse);
    } else {
      attend_windows(in, windows_of(*batch), out, lse);
    }
    context->save_for_backward({q, k, v, out, lse});
    context->saved_data["batch"] = c10::IValue::make_capsule(batch);
    context->saved_data["scale"] = scale;
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const WindowTensors in{saved[0], saved[1], saved[2], context->saved_data["scale"].toDouble()};
    const auto batch =
        c10::static_intrusive_pointer_cast<GistMaskBatch>(context->saved_data["batch"].toCapsule());
    const Tensor d_out = gradients[0].contiguous();
    const auto bank = BankProblems(*batch, in).backward(saved[3], saved[4], d_out);
    // Rows without a window get a log-sum-exp that leaves it no weight.
    const Tensor lse = batch->no_window.defined()
                           ? saved[4].index_fill(0, batch->no_window, kInfiniteScore)
                           : saved[4];
    const WindowGradients near =
        windows_backward(in, windows_of(*batch), saved[3], lse, d_out, bank.q);
    return {bank.q,
            (bank.k + near.k).to(in.k.scalar_type()),
            (bank.v + near.v).to(in.v.scalar_type()),
            Tensor(),
            Tensor()};
  }
};

}  // namespace

Tensor gist_mask_attention(const Tensor& q,
                           const Tensor& k,
                           const Tensor& v,
                           const GistMaskBatchPtr& batch,
                           double scale) {
  TORCH_CHECK(q.dim() == 3 && q.size(0) == batch->n_tokens && k.size(0) == batch->n_tokens &&
                  k.sizes() == v.sizes() && q.size(1) % k.size(1) == 0,
              "gist_mask_attention: q ",
              q.sizes(),
              ", k ",
              k.sizes(),
              ", v ",
              v.sizes(),
              " for ",
              batch->n_tokens,
              " tokens");
  return BatchFunction::apply(q.contiguous(), k.contiguous(), v.contiguous(), batch, scale);
}

}  // namespace ssa
