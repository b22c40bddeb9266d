// The two hash tables that byte-pair encoding looks into for every word. Flat, because
// std::unordered_map costs a cache miss more for each of millions of lookups.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ssa {

/// Byte strings to ids. Owns a copy of the strings. Lookups are safe from many threads.
class TokenTable {
 public:
  explicit TokenTable(size_t n_expected = 0);
  /// Adds `bytes`, or gives it another id. All strings together: below 4 GiB, or throws Error.
  void insert(std::string_view bytes, int32_t id);
  /// The id, or -1.
  int32_t find(std::string_view bytes) const;

 private:
  struct Slot {
    uint32_t hash;
    int32_t id = -1;          // -1: free
    uint32_t offset, length;  // in pool_
  };
  size_t slot_of(std::string_view bytes, uint32_t hash) const;
  void grow();

  std::vector<Slot> slots_;  // a power of two, at most half of them taken
  size_t n_taken_ = 0;
  std::string pool_;
};

/// What joining two neighbouring symbols gives.
struct Merge {
  uint32_t rank;  // lower ones are done first
  int32_t id;     // of the joined symbol
};
inline constexpr Merge kNoMerge = {UINT32_MAX, -1};

/// Pairs of ids to merges. Lookups are safe from many threads.
class PairTable {
 public:
  /// For up to `n_max` insertions.
  explicit PairTable(size_t n_max = 0);
  /// Adds the pair, or replaces its merge.
  void insert(int32_t left, int32_t right, Merge merge);
  /// The merge, or kNoMerge.
  Merge find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t pair = UINT64_MAX;  // UINT64_MAX: free
    Merge merge = kNoMerge;
  };
  size_t slot_of(uint64_t pair) const;

  std::vector<Slot> slots_;  // a power of two, at most half of them taken
};

}  // namespace ssa
