// q as 16-bit integers, for keys of 8 bits: products of the two are exact, and sums of 512 of them
// fit into 32 bits.
#pragma once

#include <cstdint>
#include <limits>

namespace ssa::cpu {
namespace {

/// Four dimensions a step as 16-bit pairs (0, 2) and (1, 3), the order in which shifts take a key's
/// four bytes apart. words: [head_dim / 2]. Returns what one is worth: largest magnitude / 32767,
/// or NaN where q is not finite.
[[maybe_unused]] float quantize_row(const float* q, int64_t head_dim, uint32_t* words) {
  constexpr float kLimit = 32767.0F;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  constexpr float kSmallest = 1e-30F;  // below, kLimit / largest would leave the range of numbers
  float largest = 0;
  bool finite = true;
  for (int64_t i = 0; i < head_dim; ++i) {
    const float magnitude = __builtin_fabsf(q[i]);
    largest = magnitude > largest ? magnitude : largest;
    finite &= magnitude < kInfinity;
  }
  const bool usable = finite && largest > kSmallest;
  const float inverse = usable ? kLimit / largest : 0;
  const auto quantize = [&](int64_t i) {
    const float scaled = usable ? q[i] * inverse : 0;
    const auto rounded = static_cast<int32_t>(scaled + (scaled < 0 ? -0.5F : 0.5F));
    return static_cast<uint32_t>(rounded) & 0xFFFFU;
  };
  for (int64_t i = 0; i < head_dim; i += 4) {
    words[i / 2] = quantize(i) | quantize(i + 2) << 16;
    words[i / 2 + 1] = quantize(i + 1) | quantize(i + 3) << 16;
  }
  return finite ? largest / kLimit : kNaN;
}

}  // namespace
}  // namespace ssa::cpu
