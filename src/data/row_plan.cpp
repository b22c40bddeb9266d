#include "data/row_plan.h"

#include <algorithm>

namespace ssa {

RowPlan::RowPlan(uint64_t n_entries, LengthFn length, const RowShape& shape, uint64_t seed)
    : length_(std::move(length)), shape_(shape), order_(n_entries, seed) {
  if (shape_.whole_rows_first) {
    for (uint64_t entry = 0; entry < n_entries; ++entry) {
      const uint64_t n_whole = length_(entry) / row_tokens();
      for (uint64_t i = 0; i < n_whole; ++i) {
        windows_.push_back({entry, i * row_tokens()});
      }
    }
  }
  if (!shape_.packs_rest) {
    return;
  }
  std::vector<EntryPart> parts;
  for (Cursor at, start; at.place < n_entries; start = at) {
    parts.clear();
    fill(at, parts);
    if (!parts.empty()) {
      packed_.push_back(start);
    }
  }
}

std::vector<EntryPart> RowPlan::parts(uint64_t row) const {
  if (row < windows_.size()) {
    const Window& window = windows_[row];
    return {{window.entry, window.begin, window.begin + row_tokens()}};
  }
  std::vector<EntryPart> parts;
  Cursor at = packed_[row - windows_.size()];
  fill(at, parts);
  return parts;
}

EntryPart RowPlan::rest(const Cursor& at) const {
  const uint64_t entry = order_(at.place);
  const uint64_t end = length_(entry);
  const uint64_t begin = shape_.whole_rows_first ? end - end % row_tokens() : 0;
  return {entry, begin + at.offset, end};
}

bool RowPlan::fits(const EntryPart& rest, uint64_t room, bool row_is_empty) const {
  if (room <= shape_.overhead) {
    return false;
  }
  const uint64_t n_tokens = room - shape_.overhead;
  return row_is_empty || rest.size() <= n_tokens || (shape_.cut && n_tokens >= shape_.min_part);
}

void RowPlan::fill(Cursor& at, std::vector<EntryPart>& parts) const {
  uint64_t room = shape_.room;
  for (; at.place < order_.size(); at = {at.place + 1, 0}) {
    const EntryPart left = rest(at);
    if (left.size() == 0) {
      continue;
    }
    if (!fits(left, room, parts.empty())) {
      return;
    }
    const uint64_t taken = std::min(left.size(), room - shape_.overhead);
    parts.push_back({left.entry, left.begin, left.begin + taken});
    if (taken < left.size()) {
      at.offset += taken;
      return;
    }
    room -= taken + shape_.overhead;
  }
}

}  // namespace ssa
