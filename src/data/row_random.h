// Random numbers that are functions of what they are for: no state to save.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace ssa {

/// Every bit of x changes about half of the bits (the finalizer of splitmix64).
inline uint64_t mix_bits(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9U;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

/// One seed of several numbers; their order counts.
inline uint64_t mix_seeds(std::initializer_list<uint64_t> seeds) {
  uint64_t mixed = 0;
  for (const uint64_t seed : seeds) {
    mixed = mix_bits(mixed + 0x9e3779b97f4a7c15U + mix_bits(seed + 0x9e3779b97f4a7c15U));
  }
  return mixed;
}

/// A short run of numbers from a seed.
class RowRandom {
 public:
  explicit RowRandom(uint64_t seed) : state_(seed) {}

  uint64_t next() { return mix_bits(state_ += 0x9e3779b97f4a7c15U); }
  /// Even in [0, n), but for a share of n / 2^64. n > 0.
  uint64_t below(uint64_t n) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(next()) * n) >> 64);
  }
  /// Even in [0, 1).
  double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

 private:
  uint64_t state_;
};

}  // namespace ssa
