#include "data/permutation.h"

#include <bit>

#include "data/row_random.h"

namespace ssa {
namespace {

// Three rounds of a good round function cannot be told from random (Luby and Rackoff, 1988); small
// domains want more.
constexpr uint64_t kRounds = 6;

}  // namespace

Permutation::Permutation(uint64_t n, uint64_t key) : n_(n), key_(key) {
  if (n > 1) {
    half_bits_ = (static_cast<int>(std::bit_width(n - 1)) + 1) / 2;
  }
}

uint64_t Permutation::operator()(uint64_t i) const {
  do {
    i = encrypt(i);
  } while (i >= n_);
  return i;
}

uint64_t Permutation::encrypt(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_, right = value & mask;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t next = left ^ (mix_seeds({key_, round, right}) & mask);
    left = right;
    right = next;
  }
  return (left << half_bits_) | right;
}

}  // namespace ssa
