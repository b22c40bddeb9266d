#include "attention/gist_mask_batch.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "attention/partial_attention.h"
#include "attention/window_part.h"

namespace ssa {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Rows of several lists, side by side under one width.
struct PaddedLists {
  std::vector<std::vector<int64_t>> lists;

  int64_t width() const {
    size_t widest = 0;
    for (const auto& list : lists) {
      widest = std::max(widest, list.size());
    }
    return static_cast<int64_t>(widest);
  }
  /// Values and pads: [n_lists, width].
  std::pair<Tensor, Tensor> tensors() const {
    const auto n = static_cast<int64_t>(lists.size());
    const Tensor values = torch::zeros({n, width()}, torch::kInt64),
                 pads = torch::ones({n, width()}, torch::kBool);
    for (int64_t i = 0; i < n; ++i) {
      const auto& list = lists[static_cast<size_t>(i)];
      std::copy(list.begin(), list.end(), values.mutable_data_ptr<int64_t>() + i * width());
      std::fill_n(pads.mutable_data_ptr<bool>() + i * width(), list.size(), false);
    }
    return {values, pads};
  }
};

/// RowsWithKeys as it grows.
struct RowLists {
  PaddedLists rows, keys;

  void add(std::vector<int64_t> these_rows, std::vector<int64_t> their_keys) {
    rows.lists.push_back(std::move(these_rows));
    keys.lists.push_back(std::move(their_keys));
  }
  RowsWithKeys finish() const {
    RowsWithKeys all;
    if (!rows.lists.empty()) {
      std::tie(all.rows, all.row_pads) = rows.tensors();
      std::tie(all.keys, all.key_pads) = keys.tensors();
      all.places = all.row_pads.flatten().logical_not().nonzero().squeeze(1);
    }
    return all;
  }
};

/// What a row of one layout sees, part by part.
class RowParts {
 public:
  RowParts(const GistLayout& layout, const MaskRule& rule)
      : layout_(layout), rule_(rule), bank_(layout.gists(layout.n_levels() - 1)) {
    first_far_ = before(std::min(rule.sink, layout.prefix_end()));
  }

  /// Gists above level 0 see themselves and no other raw token or gist of their chunk.
  int64_t window_begin(int64_t t) const {
    if (layout_.levels()[static_cast<size_t>(t)] >= 1) {
      return t;
    }
    const int64_t chunk = layout_.chunk_of(0, t) - rule_.previous_chunks;
    return chunk <= 0 ? 0 : layout_.gists(0)[static_cast<size_t>(chunk - 1)] + 1;
  }
  /// Gists of the bank in front of the window, behind the sinks.
  std::span<const int64_t> far(int64_t window_begin) const {
    const int64_t end = std::max(first_far_, before(window_begin));
    return bank_.subspan(static_cast<size_t>(first_far_), static_cast<size_t>(end - first_far_));
  }
  /// Lower gists in front of the window that row t sees.
  std::vector<int64_t> section(int64_t t, int64_t window_begin) const {
    std::vector<int64_t> keys;
    if (layout_.n_levels() == 1) {
      return keys;
    }
    const VisibleSet visible = visible_set(layout_, rule_, t);
    for (int level = 0; level + 1 < layout_.n_levels(); ++level) {
      const auto gists = layout_.gists(level);
      const Range rest = visible.gists[static_cast<size_t>(level)].rest;
      for (int64_t i = rest.begin; i < rest.end; ++i) {
        if (gists[static_cast<size_t>(i)] < window_begin) {
          keys.push_back(gists[static_cast<size_t>(i)]);
        }
      }
    }
    return keys;
  }

 private:
  int64_t before(int64_t index) const {
    return std::lower_bound(bank_.begin(), bank_.end(), index) - bank_.begin();
  }

  const GistLayout& layout_;
  const MaskRule& rule_;
  std::span<const int64_t> bank_;
  int64_t first_far_ = 0;
};

/// Collects the batch's problems, sequence by sequence.
class BatchPlanner {
 public:
  explicit BatchPlanner(const MaskRule& rule) : rule_(rule) {}

  void add(const GistLayout& layout) {
    const RowParts parts(layout, rule_);
    const int64_t base = std::ssize(begin_), prefix = layout.prefix_end();
    const auto in_batch = [&](std::span<const int64_t> indices) {
      std::vector<int64_t> rows(indices.begin(), indices.end());
      for (int64_t& row : rows) {
        row += base;
      }
      return rows;
    };
    std::vector<std::vector<int64_t>> slots;
    std::span<const int64_t> bank;      // that of the last slot
    std::vector<int64_t> last_section;  // of the row before
    for (int64_t t = 0; t < layout.n_tokens(); ++t) {
      const int64_t begin = parts.window_begin(t);
      const auto far = parts.far(begin);
      std::vector<int64_t> section = in_batch(parts.section(t, begin));
      begin_.push_back(static_cast<int32_t>(base + begin));
      is_far_.push_back(t < prefix && !far.empty());
      if (t >= prefix) {
        add_suffix_row(base + t, t == prefix, in_batch(far), std::move(section));
        continue;
      }
      if (!far.empty()) {
        if (far.size() > slots.size()) {
          slots.resize(far.size());
          bank = far;
        }
        slots[far.size() - 1].push_back(base + t);
      }
      if (!section.empty()) {
        if (section != last_section) {
          section_.add({}, section);
        }
        section_.rows.lists.back().push_back(base + t);
      }
      last_section = std::move(section);
    }
    offsets_.push_back(static_cast<int32_t>(begin_.size()));
    if (!slots.empty()) {
      slot_keys_.lists.push_back(in_batch(bank));
      slots_.push_back(std::move(slots));
    }
  }

  GistMaskBatchPtr finish() const {
    auto batch = c10::make_intrusive<GistMaskBatch>();
    batch->n_tokens = std::ssize(begin_);
    batch->n_sinks = rule_.sink;
    batch->window_begin = torch::tensor(begin_, torch::kInt32);
    batch->offsets = torch::tensor(offsets_, torch::kInt32);
    batch->is_far = torch::tensor(is_far_, torch::kUInt8).to(torch::kBool);
    if (!slots_.empty()) {
      finish_slots(*batch);
    }
    batch->suffix = suffix_.finish();
    batch->section = section_.finish();
    return batch;
  }

 private:
  /// All rows of a suffix see the same gists.
  void add_suffix_row(int64_t row,
                      bool is_first,
                      std::vector<int64_t> far,
                      std::vector<int64_t> section) {
    far.insert(far.end(), section.begin(), section.end());
    if (far.empty()) {
      return;
    }
    if (is_first) {
      suffix_.add({}, std::move(far));
    }
    suffix_.rows.lists.back().push_back(row);
  }

  void finish_slots(GistMaskBatch& batch) const {
    int64_t n_rows = 0, n_slots = 0;
    for (const auto& slots : slots_) {
      n_slots = std::max<int64_t>(n_slots, std::ssize(slots));
      for (const auto& rows : slots) {
        n_rows = std::max<int64_t>(n_rows, std::ssize(rows));
      }
    }
    const auto n = std::ssize(slots_);
    batch.slot_rows = torch::zeros({n, n_slots, n_rows}, torch::kInt64);
    batch.slot_pads = torch::ones({n, n_slots, n_rows}, torch::kBool);
    batch.place_of_row = torch::zeros({batch.n_tokens}, torch::kInt64);
    auto* rows = batch.slot_rows.mutable_data_ptr<int64_t>();
    auto* pads = batch.slot_pads.mutable_data_ptr<bool>();
    auto* places = batch.place_of_row.mutable_data_ptr<int64_t>();
    for (int64_t i = 0; i < n; ++i) {
      const auto& slots = slots_[static_cast<size_t>(i)];
      for (int64_t slot = 0; slot < std::ssize(slots); ++slot) {
        int64_t place = (i * n_slots + slot) * n_rows;
        for (const int64_t row : slots[static_cast<size_t>(slot)]) {
          rows[place] = row;
          pads[place] = false;
          places[row] = place++;
        }
      }
    }
    batch.slot_keys = slot_keys_.tensors().first;
  }

  const MaskRule& rule_;
  std::vector<int32_t> begin_, offsets_ = {0};
  std::vector<uint8_t> is_far_;
  std::vector<std::vector<std::vector<int64_t>>>
      slots_;  // of each sequence that sees the bank: rows of each slot
  PaddedLists slot_keys_;
  RowLists suffix_, section_;
};

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
  ByHead(const GistMaskBatch& batch, int64_t heads) : n_kv_heads(heads) {
    if (batch.slot_rows.defined()) {
      add_slots(batch);
    }
    if (batch.suffix.defined()) {
      suffix = spread(batch.suffix);
    }
    if (batch.section.defined()) {
      section = spread(batch.section);
    }
  }

  /// RowsWithKeys of all heads.
  struct Lists {
    Tensor rows, pads;   // [n_lists, n_kv_heads, rows], and 1
    Tensor keys;         // [n_lists, n_kv_heads, keys]
    Tensor from, to;     // [all rows * n_kv_heads] places, and rows
    Tensor key_visible;  // [n_lists * n_kv_heads, 1, 1, keys] bool

    bool defined() const { return rows.defined(); }
  };

  int64_t n_kv_heads;
  Tensor slot_rows;   // [n_far, n_kv_heads, n_slots, slot_rows]
  Tensor slot_pads;   // the same, and 1
  Tensor slot_keys;   // [n_far, n_kv_heads, n_slots]
  Tensor slot_place;  // [n_tokens * n_kv_heads] a token's place; rows without one: any
  Tensor not_far;     // [n_tokens, 1] bool
  Lists suffix, section;

 private:
  void add_slots(const GistMaskBatch& batch) {
    slot_rows = rows_by_head(batch.slot_rows, n_kv_heads);
    slot_pads = batch.slot_pads.unsqueeze(1).expand(slot_rows.sizes()).unsqueeze(-1);
    slot_keys = rows_by_head(batch.slot_keys, n_kv_heads);
    not_far = batch.is_far.logical_not().unsqueeze(1);
    // A place counts within all sequences; heads lie between sequence and slot.
    const int64_t n_places = batch.slot_rows.numel() / batch.slot_rows.size(0);
    const Tensor sequence = batch.place_of_row.div(n_places, "floor"),
                 within = batch.place_of_row.remainder(n_places);
    slot_place = places(sequence, within, n_places);
  }
  Lists spread(const RowsWithKeys& of) const {
    Lists lists;
    lists.rows = rows_by_head(of.rows, n_kv_heads);
    lists.pads = of.row_pads.unsqueeze(1).expand(lists.rows.sizes()).unsqueeze(-1);
    lists.keys = rows_by_head(of.keys, n_kv_heads);
    const int64_t width = of.rows.size(1);
    lists.from = places(of.places.div(width, "floor"), of.places.remainder(width), width);
    lists.to =
        (of.rows.flatten().index_select(0, of.places).unsqueeze(1) * n_kv_heads + heads(of.rows))
            .flatten();
    lists.key_visible =
        of.key_pads.logical_not().repeat_interleave(n_kv_heads, 0).unsqueeze(1).unsqueeze(1);
    return lists;
  }
  Tensor heads(const Tensor& like) const { return torch::arange(n_kv_heads, like.options()); }
  Tensor places(const Tensor& sequence, const Tensor& within, int64_t n_places) const {
    return ((sequence.unsqueeze(1) * n_kv_heads + heads(sequence)) * n_places + within.unsqueeze(1))
        .flatten();
  }
};

namespace {

const GistMaskBatch::ByHead& index_of(const GistMaskBatch& batch, int64_t n_kv_heads) {
  if (!batch.by_head || batch.by_head->n_kv_heads != n_kv_heads) {
    batch.by_head = std::make_shared<GistMaskBatch::ByHead>(batch, n_kv_heads);
  }
  return *batch.by_head;
}

/// The two problems over the bank, for one q, k and v.
class BankProblems {
 public:
  BankProblems(const GistMaskBatch& batch, const WindowTensors& in)
      : in_(in),
        index_(index_of(batch, in.k.size(1))),
        n_kv_heads_(in.k.size(1)),
        group_(in.q.size(1) / n_kv_heads_) {}

  bool has_slots() const { return index_.slot_rows.defined(); }
  bool has_suffixes() const { return index_.suffix.defined(); }
  bool has_sections() const { return index_.section.defined(); }

  PartialInput slots() const {
    return {slot_view(take(in_.q, index_.slot_rows)),
            keys(in_.k, index_.slot_keys),
            keys(in_.v, index_.slot_keys),
            Tensor(),
            true,
            in_.scale};
  }
  PartialInput suffixes() const {
    const int64_t n_rows = index_.suffix.rows.size(2);
    const Tensor visible = index_.suffix.key_visible.expand({-1, -1, n_rows, -1});
    return {suffix_view(take(in_.q, index_.suffix.rows)),
            keys(in_.k, index_.suffix.keys),
            keys(in_.v, index_.suffix.keys),
            visible_bias(visible, in_.q.scalar_type()).expand({-1, group_, -1, -1}),
            false,
            in_.scale};
  }
  /// Thousands of tiny problems: plain products, in float32 or better.
  PartialInput sections() const {
    const auto wider = [&](const Tensor& x) { return x.to(wide()); };
    PartialInput part{wider(section_view(take(in_.q, index_.section.rows))),
                      wider(keys(in_.k, index_.section.keys)),
                      wider(keys(in_.v, index_.section.keys)),
                      visible_bias(index_.section.key_visible, wide()),
                      false,
                      in_.scale};
    part.is_tiny = true;
    return part;
  }

  /// [n_tokens, n_heads, head_dim] and [n_tokens, n_heads]; -infinity where the bank was not seen.
  std::pair<Tensor, Tensor> forward() const {
    Tensor out, lse;
    if (has_slots()) {
      const PartialOutput far = partial_attention(slots());
      out = from_slots(far.out.transpose(1, 2));
      lse = from_slots(far.lse.transpose(1, 2)).masked_fill_(index_.not_far, -kInfiniteScore);
    } else {
      out = torch::empty_like(in_.q);
      lse = torch::full(
          {in_.q.size(0), in_.q.size(1)}, -kInfiniteScore, in_.q.options().dtype(wide()));
    }
    if (has_suffixes()) {
      const PartialOutput bank = partial_attention(suffixes());
      put_suffixes(out, bank.out.transpose(1, 2));
      put_suffixes(lse, bank.lse.transpose(1, 2));
    }
    if (has_sections()) {
      merge_sections(out, lse, partial_attention(sections()));
    }
    return {out, lse};
  }

  /// Gradient of q, and those of keys and values, float32 or better, [n_tokens, n_kv_heads,
  /// head_dim].
  struct Gradients {
    Tensor q, k, v;
  };
  Gradients backward(const Tensor& out, const Tensor& lse, const Tensor& d_out) const {
    const auto options = in_.k.options().dtype(wide());
    Gradients gradients{
        Tensor(), torch::zeros(in_.k.sizes(), options), torch::zeros(in_.v.sizes(), options)};
    // Rows that only fill up get a log-sum-exp that leaves them no weight.
    if (has_slots()) {
      const PartialGradients far = partial_attention_backward(
          slots(),
          {slot_view(take(out, index_.slot_rows)),
           slot_view(take(lse, index_.slot_rows).masked_fill_(index_.slot_pads, kInfiniteScore))},
          slot_view(take(d_out, index_.slot_rows)));
      gradients.q = from_slots(far.q.transpose(1, 2)).masked_fill_(index_.not_far.unsqueeze(2), 0);
      add_keys(gradients, index_.slot_keys, far);
    } else {
      gradients.q = torch::zeros_like(in_.q);
    }
    if (has_suffixes()) {
      const PartialGradients bank = partial_attention_backward(
          suffixes(),
          {suffix_view(take(out, index_.suffix.rows)),
           suffix_view(
               take(lse, index_.suffix.rows).masked_fill_(index_.suffix.pads, kInfiniteScore))},
          suffix_view(take(d_out, index_.suffix.rows)));
      put_suffixes(gradients.q, bank.q.transpose(1, 2));
      add_keys(gradients, index_.suffix.keys, bank);
    }
    if (has_sections()) {
      const auto wider = [&](const Tensor& x) { return section_view(x).to(wide()); };
      const Tensor merged_lse =
          take(lse, index_.section.rows).masked_fill_(index_.section.pads, kInfiniteScore);
      const PartialGradients part = partial_attention_backward(
          sections(),
          {wider(take(out, index_.section.rows)), section_view(merged_lse)},
          wider(take(d_out, index_.section.rows)));
      by_row(gradients.q)
          .index_add_(0, index_.section.to, section_rows(part.q).to(in_.q.scalar_type()));
      add_keys(gradients, index_.section.keys, part);
    }
    return gradients;
  }

 private:
  /// x [n_tokens, n_heads, ...] at an index of rows by head: [index..., group, ...].
  Tensor take(const Tensor& x, const Tensor& index) const {
    std::vector<int64_t> shape = index.sizes().vec();
    shape.push_back(group_);
    shape.insert(shape.end(), x.sizes().begin() + 2, x.sizes().end());
    return x.view({x.size(0) * n_kv_heads_, -1}).index_select(0, index.flatten()).view(shape);
  }

  /// [n_far, n_kv_heads, n_slots, slot_rows, group, ...] as heads of slots: [n_far * n_kv_heads,
  /// slot_rows * group, n_slots, ...].
  static Tensor slot_view(const Tensor& x) { return x.flatten(3, 4).flatten(0, 1).transpose(1, 2); }
  /// [n_suffixes, n_kv_heads, rows, group, ...]: [n_suffixes * n_kv_heads, group, rows, ...].
  static Tensor suffix_view(const Tensor& x) { return x.flatten(0, 1).transpose(1, 2); }

  /// The same: [n_lists * n_kv_heads, 1, rows * group, ...].
  static Tensor section_view(const Tensor& x) { return x.flatten(2, 3).flatten(0, 1).unsqueeze(1); }

  /// [n_tokens, n_heads, ...] as [n_tokens * n_kv_heads, group, ...].
  Tensor by_row(const Tensor& x) const {
    std::vector<int64_t> shape{x.size(0) * n_kv_heads_, group_};
    shape.insert(shape.end(), x.sizes().begin() + 2, x.sizes().end());
    return x.view(shape);
  }
  /// x: [n_lists * n_kv_heads, 1, rows * group, ...], without padding: [all rows * n_kv_heads,
  /// group, ...].
  Tensor section_rows(const Tensor& x) const {
    std::vector<int64_t> shape{index_.section.rows.numel(), group_};
    shape.insert(shape.end(), x.sizes().begin() + 3, x.sizes().end());
    return x.reshape(shape).index_select(0, index_.section.from);
  }
  /// Adds a part to what was seen so far; where that is nothing `out` may hold anything.
  void merge_sections(Tensor& out, Tensor& lse, const PartialOutput& part) const {
    const Tensor& rows = index_.section.to;
    const Tensor seen = by_row(lse).index_select(0, rows), more = section_rows(part.lse),
                 both = torch::logaddexp(seen, more), share = (more - both).exp().unsqueeze(-1);
    const Tensor so_far =
        by_row(out).index_select(0, rows).to(wide()).masked_fill_(seen.isinf().unsqueeze(-1), 0);
    const Tensor merged = so_far.lerp(section_rows(part.out), share);
    by_row(out).index_copy_(0, rows, merged.to(out.scalar_type()));
    by_row(lse).index_copy_(0, rows, both);
  }

  torch::ScalarType wide() const {
    return torch::promote_types(in_.q.scalar_type(), torch::kFloat32);
  }

  /// x: [n_far * n_kv_heads, n_slots, slot_rows * group, ...] -> [n_tokens, n_heads, ...]; rows
  /// without a slot hold anything.
  Tensor from_slots(const Tensor& x) const {
    std::vector<int64_t> shape{in_.q.size(0), in_.q.size(1)};
    shape.insert(shape.end(), x.sizes().begin() + 3, x.sizes().end());
    const int64_t n_places = index_.slot_rows.numel();
    return x.reshape({n_places, -1}).index_select(0, index_.slot_place).view(shape);
  }

  /// x: [n_suffixes * n_kv_heads, rows, group, ...] into whole [n_tokens, n_heads, ...].
  void put_suffixes(Tensor& whole, const Tensor& x) const {
    const Tensor flat = x.reshape({index_.suffix.rows.numel(), -1});
    whole.view({whole.size(0) * n_kv_heads_, -1})
        .index_copy_(0, index_.suffix.to, flat.index_select(0, index_.suffix.from));
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
    attend_windows(in, windows_of(*batch), out, lse);
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
    const WindowGradients near =
        windows_backward(in, windows_of(*batch), saved[3], saved[4], d_out, bank.q);
    return {bank.q,
            (bank.k + near.k).to(in.k.scalar_type()),
            (bank.v + near.v).to(in.v.scalar_type()),
            Tensor(),
            Tensor()};
  }
};

}  // namespace

GistMaskBatchPtr plan_gist_mask_batch(std::span<const LaidSequences> sequences,
                                      const MaskRule& rule) {
  if (rule.sink < 0) {
    return {};
  }
  BatchPlanner planner(rule);
  for (const LaidSequences& each : sequences) {
    for (int64_t i = 0; i < each.n_sequences; ++i) {
      planner.add(*each.layout);
    }
  }
  return planner.finish();
}

GistMaskBatchPtr to_device(const GistMaskBatch& batch, torch::Device device) {
  auto moved = c10::make_intrusive<GistMaskBatch>(batch);
  moved->by_head.reset();
  for (Tensor* tensor : {&moved->window_begin,
                         &moved->offsets,
                         &moved->slot_rows,
                         &moved->slot_pads,
                         &moved->slot_keys,
                         &moved->place_of_row,
                         &moved->is_far,
                         &moved->suffix.rows,
                         &moved->suffix.row_pads,
                         &moved->suffix.places,
                         &moved->suffix.keys,
                         &moved->suffix.key_pads,
                         &moved->section.rows,
                         &moved->section.row_pads,
                         &moved->section.places,
                         &moved->section.keys,
                         &moved->section.key_pads}) {
    if (tensor->defined()) {
      *tensor = tensor->to(device, /*non_blocking=*/true);
    }
  }
  return moved;
}

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
