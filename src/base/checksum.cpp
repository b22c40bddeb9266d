#include "base/checksum.h"

#include <array>
#include <bit>
#include <cstring>

namespace ssa {
namespace {

constexpr uint64_t kOdd = 0x9E3779B97F4A7C15ULL;

/// A bijection of 64 bits (the finisher of splitmix64).
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

}  // namespace

uint64_t checksum(std::span<const std::byte> bytes, uint64_t seed) {
  constexpr size_t kLanes = 4, kWord = sizeof(uint64_t);
  std::array<uint64_t, kLanes> lanes;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    lanes[lane] = mix(seed + kOdd * (lane + 1));
  }
  size_t at = 0;
  for (; at + kLanes * kWord <= bytes.size(); at += kLanes * kWord) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      uint64_t word;
      std::memcpy(&word, bytes.data() + at + lane * kWord, kWord);
      // Each step can be undone, so that no change of one word is ever lost.
      lanes[lane] = std::rotl((lanes[lane] ^ word) * kOdd, 29);
    }
  }
  uint64_t sum = mix(bytes.size() + seed);
  for (const uint64_t lane : lanes) {
    sum = mix(sum ^ lane);
  }
  for (; at < bytes.size(); ++at) {
    sum = mix(sum ^ static_cast<uint64_t>(bytes[at]));
  }
  return sum;
}

}  // namespace ssa
