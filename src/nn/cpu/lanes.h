// Lanes of floats from the number types of weights and activations, and back (see base/lanes.h).
#pragma once

#include <cstdint>
#include <cstring>

#include "base/lanes.h"
#include "nn/cpu/bf16.h"

namespace ssa::cpu {
namespace {

using Words [[gnu::vector_size(4 * kLanes)]] = uint32_t;
using Halves [[gnu::vector_size(2 * kLanes)]] = uint16_t;

inline Floats load(const BF16* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  return reinterpret_cast<Floats>(__builtin_convertvector(halves, Words) << 16);
}

/// Rounds to nearest even.
inline void store(Floats values, BF16* to) {
  const Words bits = reinterpret_cast<Words>(values);
  const Words rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const Words nan = Words{} + 0x7FC0;
  const Halves halves = __builtin_convertvector(values == values ? rounded : nan, Halves);
  std::memcpy(to, &halves, sizeof halves);
}

/// The first n numbers, and 0 where n < kLanes.
template <class T>
inline Floats load_some(const T* from, int64_t n) {
  if (n >= kLanes) {
    return load(from);
  }
  T some[kLanes] = {};
  std::memcpy(some, from, static_cast<size_t>(n) * sizeof(T));
  return load(some);
}

template <class T>
inline void store_some(Floats values, T* to, int64_t n) {
  if (n >= kLanes) {
    return store(values, to);
  }
  T some[kLanes];
  store(values, some);
  std::memcpy(to, some, static_cast<size_t>(n) * sizeof(T));
}

/// Bytes as whole numbers, in two steps: g++ 12 takes a step of four times the width number by
/// number.
inline Ints load(const uint8_t* from) {
  using UnsignedBytes [[gnu::vector_size(kLanes)]] = uint8_t;
  UnsignedBytes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return __builtin_convertvector(__builtin_convertvector(bytes, Halves), Ints);
}

/// To the nearest whole number, halves to even, for |x| < 2^22: the bits that 1.5 * 2^23 pushes out
/// are rounded off.
inline Ints round_to_ints(Floats x) {
  constexpr float kShift = 0x1.8p23F;
  return reinterpret_cast<Ints>(x + kShift) - 0x4B400000;
}

}  // namespace
}  // namespace ssa::cpu
