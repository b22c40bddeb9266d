// Which parts of which entries make up each row of a source.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "data/permutation.h"

namespace ssa {

/// Tokens [begin, end) of an entry.
struct EntryPart {
  uint64_t entry = 0;
  uint64_t begin = 0;
  uint64_t end = 0;

  uint64_t size() const { return end - begin; }
  bool operator==(const EntryPart&) const = default;
};

/// How rows are filled. Sizes in tokens.
struct RowShape {
  uint64_t room = 0;      // for the parts of a row, with what each part costs
  uint64_t overhead = 0;  // that a part costs beside its tokens (BOS); below room
  /// An entry that does not fit is cut, and goes on in the next row.
  bool cut = true;
  /// Entries that fill whole rows are cut into these from their start; only what is left is packed.
  bool whole_rows_first = true;
  /// What is left of entries behind their whole rows is packed; else it is left out.
  bool packs_rest = true;
  /// Behind other parts, none of fewer tokens is begun (unless it is a whole entry). >= 1.
  uint64_t min_part = 1;
};

/// Entries in an order that the seed shuffles: first the whole rows of long ones, then rows packed
/// from what is left. Every token stands in exactly one row. A packed row may have room left, the
/// last one and those that end in front of a part that would be too small. Entries of no tokens are
/// passed over. 16 bytes of memory a row; parts() is O(parts of the row). Const methods are safe
/// from many threads where `length` is.
class RowPlan {
 public:
  using LengthFn = std::function<uint64_t(uint64_t entry)>;

  /// Asks for every entry's length once or twice. Without `cut` no entry may be longer than the
  /// room less the overhead.
  RowPlan(uint64_t n_entries, LengthFn length, const RowShape& shape, uint64_t seed);

  uint64_t n_rows() const { return windows_.size() + packed_.size(); }
  /// Not empty. row < n_rows().
  std::vector<EntryPart> parts(uint64_t row) const;

 private:
  /// A place in the shuffled order of entries, and how many tokens of what is to be packed of the
  /// entry there lie behind.
  struct Cursor {
    uint64_t place = 0;
    uint64_t offset = 0;
  };

  uint64_t row_tokens() const { return shape_.room - shape_.overhead; }
  EntryPart rest(const Cursor& at) const;
  /// Appends the parts of the row that begins at the cursor, and moves it behind them.
  void fill(Cursor& at, std::vector<EntryPart>& parts) const;
  bool fits(const EntryPart& rest, uint64_t room, bool row_is_empty) const;

  LengthFn length_;
  RowShape shape_;
  Permutation order_;
  std::vector<Cursor> packed_;
  struct Window {
    uint64_t entry, begin;
  };
  std::vector<Window> windows_;
};

}  // namespace ssa
