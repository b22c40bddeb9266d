#include "attention/gist_mask_plan.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

namespace ssa {
namespace {

constexpr int64_t kColumnAlignment = 8;  // of attention kernels that read a bias

int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

Tensor to_tensor(const std::vector<int64_t>& values) {
  return torch::tensor(values, torch::kInt64);
}

/// Which keys each prefix row sees near, and which gists far.
class MaskParts {
 public:
  MaskParts(const GistLayout& layout, const MaskRule& rule)
      : layout_(layout),
        rule_(rule),
        top_(layout.n_levels() - 1),
        // With one level the window is one run of tokens, gists included, so a gist is far once its
        // chunk is.
        lag_(top_ == 0 ? rule.previous_chunks : 0),
        sink_end_(std::min(sink_end(layout, rule), layout.prefix_end())) {
    for (int64_t t = 0; t < layout.n_tokens(); ++t) {
      if (layout.levels()[static_cast<size_t>(t)] == kRawLevel) {
        raw_index_.push_back(t);
      }
    }
    const auto gists = layout.gists(top_);
    first_far_ = std::lower_bound(gists.begin(), gists.end(), sink_end_) - gists.begin();
  }

  int64_t sinks() const { return sink_end_; }
  /// Ordinals of the bank that row t sees far.
  Range far(int64_t t) const {
    return {first_far_, std::max(first_far_, layout_.chunk_of(top_, t) - lag_)};
  }

  /// Calls fn(index) for every near key of row t that is no sink, in no particular order.
  template <class Fn>
  void for_each_near(int64_t t, const Fn& fn) const {
    const Range far_gists = far(t);
    const auto give = [&](int64_t index) {
      if (index >= sink_end_) {
        fn(index);
      }
    };
    if (top_ == 0) {
      for (int64_t index = std::max(window_begin(t), sink_end_); index <= t; ++index) {
        fn(index);
      }
      return;
    }
    const VisibleSet visible = visible_set(layout_, rule_, t);
    for (int64_t i = visible.raw.rest.begin; i < visible.raw.rest.end; ++i) {
      give(raw_index_[static_cast<size_t>(i)]);
    }
    for (int level = 0; level <= top_; ++level) {
      const Range rest = visible.gists[static_cast<size_t>(level)].rest;
      for (int64_t i = rest.begin; i < rest.end; ++i) {
        if (level < top_ || !far_gists.contains(i)) {
          give(layout_.gists(level)[static_cast<size_t>(i)]);
        }
      }
    }
  }

  /// One level: where the window of row t begins.
  int64_t window_begin(int64_t t) const {
    const int64_t chunk = layout_.chunk_of(0, t) - lag_;
    return chunk <= 0 ? 0 : layout_.gists(0)[static_cast<size_t>(chunk - 1)] + 1;
  }

  /// The first of them, t itself at the latest.
  int64_t near_begin(int64_t t) const {
    int64_t first = t;
    for_each_near(t, [&](int64_t index) { first = std::min(first, index); });
    return first;
  }

 private:
  const GistLayout& layout_;
  const MaskRule& rule_;
  int top_;
  int64_t lag_, sink_end_, first_far_ = 0;
  std::vector<int64_t> raw_index_;  // of each raw token
};

/// Blocks of rows as high as keeps the window's other columns from being wasted.
int64_t choose_block_rows(int64_t longest_reach) {
  return longest_reach <= 48 ? 64 : longest_reach <= 512 ? 128 : 256;
}

void plan_near(GistMaskPlan& plan, const MaskParts& parts) {
  const int64_t n = plan.prefix_end;
  std::vector<int64_t> begins(static_cast<size_t>(n));
  int64_t longest_reach = 0;
  for (int64_t t = 0; t < n; ++t) {
    begins[static_cast<size_t>(t)] = parts.near_begin(t);
    longest_reach = std::max(longest_reach, t - begins[static_cast<size_t>(t)]);
  }
  plan.n_sinks = parts.sinks();
  plan.block_rows = choose_block_rows(longest_reach);
  plan.n_blocks = n / plan.block_rows + 1;
  std::vector<Range> windows;
  for (int64_t block = 0; block < plan.n_blocks; ++block) {
    const int64_t first = std::min(block * plan.block_rows, n),
                  end = std::min(first + plan.block_rows, n);
    const auto lowest = std::min_element(begins.begin() + first, begins.begin() + end);
    windows.push_back(
        {lowest == begins.begin() + end ? end : std::max(*lowest, plan.n_sinks), end});
    plan.window = std::max(plan.window, plan.n_sinks + std::max<int64_t>(windows.back().size(), 0));
  }
  plan.window = round_up(std::max<int64_t>(plan.window, 1), kColumnAlignment);

  std::vector<int64_t> keys(static_cast<size_t>(plan.n_blocks * plan.window), 0);
  std::vector<std::vector<int64_t>> copies(static_cast<size_t>(n));
  plan.near_visible = torch::zeros({plan.n_blocks, plan.block_rows, plan.window}, torch::kBool);
  auto* visible = plan.near_visible.mutable_data_ptr<bool>();
  for (int64_t block = 0; block < plan.n_blocks; ++block) {
    const Range window = windows[static_cast<size_t>(block)];
    const int64_t base = block * plan.window;
    std::iota(keys.begin() + base, keys.begin() + base + plan.n_sinks, int64_t{0});
    for (int64_t index = window.begin; index < window.end; ++index) {
      const int64_t place = base + plan.n_sinks + index - window.begin;
      keys[static_cast<size_t>(place)] = index;
      copies[static_cast<size_t>(index)].push_back(place);
    }
    for (int64_t row = 0; row < plan.block_rows; ++row) {
      bool* columns = visible + (block * plan.block_rows + row) * plan.window;
      const int64_t t = block * plan.block_rows + row;
      if (t >= n) {
        columns[0] = true;  // a row of padding must see something
        continue;
      }
      std::fill(columns, columns + std::min(plan.n_sinks, t + 1), true);
      parts.for_each_near(
          t, [&](int64_t index) { columns[plan.n_sinks + index - window.begin] = true; });
    }
  }
  size_t n_copies = 0;
  for (const auto& each : copies) {
    n_copies = std::max(n_copies, each.size());
  }
  plan.near_copies =
      torch::full({static_cast<int64_t>(n_copies), n}, plan.n_blocks * plan.window, torch::kInt64);
  auto* places = plan.near_copies.mutable_data_ptr<int64_t>();
  for (int64_t t = 0; t < n; ++t) {
    for (size_t i = 0; i < copies[static_cast<size_t>(t)].size(); ++i) {
      places[static_cast<int64_t>(i) * n + t] = copies[static_cast<size_t>(t)][i];
    }
  }
  plan.near_keys = to_tensor(keys);
}

/// Rows a slot should have: all of the highest chunk's, unless the few high ones cost more as slots
/// than apart.
int64_t choose_slot_rows(const std::vector<int64_t>& heights) {
  std::vector<int64_t> sorted(heights);
  std::sort(sorted.begin(), sorted.end());
  const int64_t highest = sorted.back();
  const int64_t usual = sorted[sorted.size() * 9 / 10];
  return highest * 20 <= usual * 21 ? highest : usual;
}

void plan_overflow(GistMaskPlan& plan,
                   const std::vector<int64_t>& rows,
                   const std::vector<int64_t>& slots) {
  if (rows.empty()) {
    return;
  }
  plan.overflow_rows = to_tensor(rows);
  plan.overflow_visible = torch::arange(plan.n_slots).unsqueeze(0) <= to_tensor(slots).unsqueeze(1);
}

void plan_far(GistMaskPlan& plan, const GistLayout& layout, const MaskParts& parts) {
  const int top = layout.n_levels() - 1;
  const int64_t n = plan.prefix_end;
  plan.far_begin = n;
  while (plan.far_begin > 0 && !parts.far(plan.far_begin - 1).empty()) {
    --plan.far_begin;
  }
  if (plan.far_begin == n) {
    return;
  }
  const Range first = parts.far(plan.far_begin), last = parts.far(n - 1);
  plan.n_slots = last.end - first.begin;
  const auto gists = layout.gists(top).subspan(static_cast<size_t>(first.begin),
                                               static_cast<size_t>(plan.n_slots));
  plan.far_keys = to_tensor({gists.begin(), gists.end()});

  std::vector<int64_t> heights(static_cast<size_t>(plan.n_slots), 0);
  const auto slot_at = [&](int64_t t) { return parts.far(t).end - first.end; };
  for (int64_t t = plan.far_begin; t < n; ++t) {
    ++heights[static_cast<size_t>(slot_at(t))];
  }
  plan.slot_rows = choose_slot_rows(heights);
  if (std::all_of(heights.begin(), heights.end(), [&](int64_t height) {
        return height == plan.slot_rows;
      })) {
    return;
  }
  std::vector<int64_t> row_in_slot(static_cast<size_t>(plan.n_slots * plan.slot_rows), n),
      slot_of_row, overflow_rows, overflow_slots;
  std::fill(heights.begin(), heights.end(), 0);
  for (int64_t t = plan.far_begin; t < n; ++t) {
    const int64_t slot = slot_at(t), row = heights[static_cast<size_t>(slot)]++;
    if (row < plan.slot_rows) {
      slot_of_row.push_back(slot * plan.slot_rows + row);
      row_in_slot[static_cast<size_t>(slot_of_row.back())] = t;
    } else {
      slot_of_row.push_back(0);  // overwritten by the overflow's own
      overflow_rows.push_back(t - plan.far_begin);
      overflow_slots.push_back(slot);
    }
  }
  plan.slot_of_row = to_tensor(slot_of_row);
  plan.row_in_slot = to_tensor(row_in_slot);
  plan_overflow(plan, overflow_rows, overflow_slots);
}

/// One level: windows of all rows.
void plan_windows(GistMaskPlan& plan, const GistLayout& layout, const MaskParts& parts) {
  plan.window_begin = torch::zeros({plan.n_tokens}, torch::kInt32);
  auto* begin = plan.window_begin.mutable_data_ptr<int32_t>();
  for (int64_t t = 0; t < plan.n_tokens; ++t) {
    begin[t] = static_cast<int32_t>(parts.window_begin(t));
  }
  std::vector<int64_t> bank;
  if (plan.n_suffix() > 0) {
    for (const int64_t gist : layout.gists(0)) {
      if (gist >= parts.sinks() && gist < begin[plan.prefix_end]) {
        bank.push_back(gist);
      }
    }
  }
  plan.suffix_bank_keys = to_tensor(bank);
}

void plan_suffix(GistMaskPlan& plan, const GistLayout& layout, const MaskRule& rule) {
  std::vector<int64_t> keys;
  if (plan.n_suffix() > 0 && plan.prefix_end > 0) {
    for (const Range& range : visible_ranges(layout, rule, plan.prefix_end)) {
      for (int64_t index = range.begin; index < std::min(range.end, plan.prefix_end); ++index) {
        keys.push_back(index);
      }
    }
  }
  plan.rect_keys = to_tensor(keys);
}

}  // namespace

GistMaskPlanPtr plan_gist_mask(const GistLayout& layout, const MaskRule& rule) {
  auto plan = c10::make_intrusive<GistMaskPlan>();
  plan->n_tokens = layout.n_tokens();
  plan->prefix_end = layout.prefix_end();
  if (plan->prefix_end > 0) {
    const MaskParts parts(layout, rule);
    plan_near(*plan, parts);
    plan_far(*plan, layout, parts);
    if (layout.n_levels() == 1) {
      plan_windows(*plan, layout, parts);
    }
  }
  plan_suffix(*plan, layout, rule);
  return plan;
}

GistMaskPlanPtr to_device(const GistMaskPlan& plan, torch::Device device) {
  auto moved = c10::make_intrusive<GistMaskPlan>(plan);
  for (Tensor* tensor : {&moved->near_keys,
                         &moved->near_visible,
                         &moved->near_copies,
                         &moved->far_keys,
                         &moved->slot_of_row,
                         &moved->row_in_slot,
                         &moved->window_begin,
                         &moved->suffix_bank_keys,
                         &moved->overflow_rows,
                         &moved->overflow_visible,
                         &moved->rect_keys}) {
    if (tensor->defined()) {
      *tensor = tensor->to(device, /*non_blocking=*/true);
    }
  }
  return moved;
}

}  // namespace ssa
