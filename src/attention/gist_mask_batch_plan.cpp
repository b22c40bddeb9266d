// Which rows of a batch see which gists, from its layouts.
#include "attention/gist_mask_batch.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

namespace ssa {
namespace {

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

  /// Gists above level 0 have no window: of their own chunk they see gists alone.
  bool has_window(int64_t t) const { return layout_.levels()[static_cast<size_t>(t)] <= 0; }
  int64_t window_begin(int64_t t) const {
    const int64_t chunk = layout_.chunk_of(0, t) - rule_.previous_chunks;
    return chunk <= 0 ? 0 : layout_.gists(0)[static_cast<size_t>(chunk - 1)] + 1;
  }
  /// Gists of the bank in front of index `end`, behind the sinks.
  std::span<const int64_t> far(int64_t end) const {
    const int64_t n = std::max(first_far_, before(end)) - first_far_;
    return bank_.subspan(static_cast<size_t>(first_far_), static_cast<size_t>(n));
  }
  /// Lower gists in front of index `end` that row t sees, behind the sinks.
  std::vector<int64_t> section(int64_t t, int64_t end) const {
    std::vector<int64_t> keys;
    if (layout_.n_levels() == 1) {
      return keys;
    }
    const VisibleSet visible = visible_set(layout_, rule_, t);
    for (int level = 0; level + 1 < layout_.n_levels(); ++level) {
      const auto gists = layout_.gists(level);
      const Range rest = visible.gists[static_cast<size_t>(level)].rest;
      for (int64_t i = rest.begin; i < rest.end; ++i) {
        if (gists[static_cast<size_t>(i)] < end) {
          keys.push_back(gists[static_cast<size_t>(i)]);
        }
      }
    }
    return keys;
  }
  /// What a gist above level 0 sees besides the bank: the sinks, lower gists, itself.
  std::vector<int64_t> section_of_gist(int64_t t) const {
    std::vector<int64_t> keys = section(t, t);
    for (int64_t sink = 0; sink < std::min(rule_.sink, t); ++sink) {
      keys.push_back(sink);
    }
    keys.push_back(t);
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
      const bool has_window = parts.has_window(t);
      const int64_t begin = has_window ? parts.window_begin(t) : t;
      const auto far = parts.far(begin);
      std::vector<int64_t> section =
          in_batch(has_window ? parts.section(t, begin) : parts.section_of_gist(t));
      if (has_window) {
        begin_.push_back(static_cast<int32_t>(base + begin));
      } else {
        begin_.push_back(begin_.back());  // not used, but windows never step back
        no_window_.push_back(base + t);
      }
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
        RowLists& sections = sections_[{layout.chunk_sizes(), has_window}];
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
    if (!no_window_.empty()) {
      batch->no_window = torch::tensor(no_window_, torch::kInt64);
    }
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
  std::map<std::pair<ChunkSizes, bool>, RowLists> sections_;  // apart: gists above level 0
  std::vector<int64_t> no_window_;
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
  if (batch.no_window.defined()) {
    tensors.push_back(&moved->no_window);
  }
  for (Tensor* tensor : tensors) {
    *tensor = tensor->to(device, /*non_blocking=*/true);
  }
  return moved;
}

}  // namespace ssa
