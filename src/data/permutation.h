// Shuffling without a table.
#pragma once

#include <cstdint>

namespace ssa {

/// A permutation of [0, n) that the key chooses: a Feistel network over the next even number of
/// bits, applied again while the result is not below n (fewer than 4 times on average). O(1)
/// memory; safe from many threads.
class Permutation {
 public:
  Permutation(uint64_t n, uint64_t key);

  uint64_t size() const { return n_; }
  /// The number that stands at place i < size().
  uint64_t operator()(uint64_t i) const;

 private:
  uint64_t encrypt(uint64_t value) const;

  uint64_t n_;
  uint64_t key_;
  int half_bits_ = 1;
};

}  // namespace ssa
