#include "attention/gist_mask_batch.h"

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>
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

Tensor places_of(const Tensor& pads) {
  return pads.flatten().logical_not().nonzero().squeeze(1);
}

/// RowsWithKeys as it grows.
struct RowLists {
  PaddedLists rows, keys;

  void add(std::vector<int64_t> these_rows, std::vector<int64_t> their_keys) {
    rows.lists.push_back(std::move(these_rows));
    keys.lists.push_back(std::move(their_keys));
  }
  RowsWithKeys finish() const {
    RowsWithKeys all;
    std::tie(all.rows, all.row_pads) = rows.tensors();
    std::tie(all.keys, all.key_pads) = keys.tensors();
    all.places = places_of(all.row_pads);
    return all;
  }
};

/// BankSlots as it grows.
struct SlotLists {
  std::vector<std::vector<std::vector<int64_t>>> rows;  // of each bank: those of each slot
  PaddedLists keys;

  BankSlots finish() const {
    int64_t n_rows = 0, n_slots = 0;
    for (const auto& slots : rows) {
      n_slots = std::max<int64_t>(n_slots, std::ssize(slots));
      for (const auto& slot : slots) {
        n_rows = std::max<int64_t>(n_rows, std::ssize(slot));
      }
    }
    BankSlots all;
    all.rows = torch::zeros({std::ssize(rows), n_slots, n_rows}, torch::kInt64);
    all.row_pads = torch::ones({std::ssize(rows), n_slots, n_rows}, torch::kBool);
    for (int64_t bank = 0; bank < std::ssize(rows); ++bank) {
      const auto& slots = rows[static_cast<size_t>(bank)];
      for (int64_t slot = 0; slot < std::ssize(slots); ++slot) {
        const auto& list = slots[static_cast<size_t>(slot)];
        const int64_t place = (bank * n_slots + slot) * n_rows;
        std::copy(list.begin(), list.end(), all.rows.mutable_data_ptr<int64_t>() + place);
        std::fill_n(all.row_pads.mutable_data_ptr<bool>() + place, list.size(), false);
      }
    }
    all.keys = keys.tensors().first;
    all.places = places_of(all.row_pads);
    return all;
  }
};

/// What sequences have in common whose problems are padded to one shape: chunk sizes, and the
/// length of the bank within a factor of two.
struct Shape {
  ChunkSizes chunk;
  int magnitude = 0;

  Shape(const GistLayout& layout, size_t n_bank) : chunk(layout.chunk_sizes()) {
    constexpr size_t kSmall = 64;
    for (size_t n = n_bank; n > kSmall; n /= 2) {
      ++magnitude;
    }
  }
  bool operator<(const Shape& other) const {
    return std::tie(chunk, magnitude) < std::tie(other.chunk, other.magnitude);
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
    std::span<const int64_t> bank;  // that of the last slot
    std::vector<int64_t> suffix, suffix_keys, last_section;
    for (int64_t t = 0; t < layout.n_tokens(); ++t) {
      const int64_t begin = parts.window_begin(t);
      const auto far = parts.far(begin);
      std::vector<int64_t> section = in_batch(parts.section(t, begin));
      begin_.push_back(static_cast<int32_t>(base + begin));
      if (t >= prefix) {  // all of them see the same gists
        if (suffix.empty()) {
          suffix_keys = in_batch(far);
          suffix_keys.insert(suffix_keys.end(), section.begin(), section.end());
        }
        suffix.push_back(base + t);
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
        RowLists& sections = sections_[layout.chunk_sizes()];
        if (section != last_section) {
          sections.add({}, section);
        }
        sections.rows.lists.back().push_back(base + t);
      }
      last_section = std::move(section);
    }
    offsets_.push_back(static_cast<int32_t>(begin_.size()));
    if (!suffix_keys.empty()) {
      suffixes_[Shape(layout, suffix_keys.size())].add(std::move(suffix), std::move(suffix_keys));
    }
    if (!slots.empty()) {
      SlotLists& like = slots_[Shape(layout, bank.size())];
      like.keys.lists.push_back(in_batch(bank));
      like.rows.push_back(std::move(slots));
    }
  }

  GistMaskBatchPtr finish() const {
    auto batch = c10::make_intrusive<GistMaskBatch>();
    batch->n_tokens = std::ssize(begin_);
    batch->n_sinks = rule_.sink;
    batch->window_begin = torch::tensor(begin_, torch::kInt32);
    batch->offsets = torch::tensor(offsets_, torch::kInt32);
    for (const auto& each : slots_) {
      batch->slots.push_back(each.second.finish());
    }
    for (const auto& each : suffixes_) {
      batch->suffixes.push_back(each.second.finish());
    }
    for (const auto& each : sections_) {
      batch->sections.push_back(each.second.finish());
    }
    return batch;
  }

 private:
  const MaskRule& rule_;
  std::vector<int32_t> begin_, offsets_ = {0};
  std::map<Shape, SlotLists> slots_;
  std::map<Shape, RowLists> suffixes_;
  std::map<ChunkSizes, RowLists> sections_;
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
    for (const Lists& lists : index_.slots) {
      const PartialGradients part = partial_attention_backward(
          slots(lists),
          {slot_view(take(out, lists.rows)), slot_view(padded_lse(lists))},
          slot_view(take(d_out, lists.rows)));
      put(gradients.q, lists, part.q.transpose(1, 2));
      add_keys(gradients, lists.keys, part);
    }
    for (const Lists& lists : index_.suffixes) {
      const PartialGradients part = partial_attention_backward(
          suffix(lists),
          {suffix_view(take(out, lists.rows)), suffix_view(padded_lse(lists))},
          suffix_view(take(d_out, lists.rows)));
      put(gradients.q, lists, part.q.transpose(1, 2));
      add_keys(gradients, lists.keys, part);
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
  std::vector<Tensor*> tensors{&moved->window_begin, &moved->offsets};
  for (BankSlots& each : moved->slots) {
    tensors.insert(tensors.end(), {&each.rows, &each.row_pads, &each.places, &each.keys});
  }
  for (auto* lists : {&moved->suffixes, &moved->sections}) {
    for (RowsWithKeys& each : *lists) {
      tensors.insert(tensors.end(),
                     {&each.rows, &each.row_pads, &each.places, &each.keys, &each.key_pads});
    }
  }
  for (Tensor* tensor : tensors) {
    *tensor = tensor->to(device, /*non_blocking=*/true);
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
