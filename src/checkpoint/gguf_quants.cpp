// How the formats pack a block (d, m: half-precision scale and offset; q: the integers; all
// little-endian):
//
//   Q4_0  d | 16 bytes: q[j] low and q[j + 16] high nibble            weight = d (q - 8)
//   Q4_1  d m | 16 bytes as above                                     weight = d q + m
//   Q5_0  d | 32 fifth bits | 16 bytes as above                       weight = d (q - 16)
//   Q5_1  d m | 32 fifth bits | 16 bytes as above                     weight = d q + m
//   Q8_0  d | 32 signed bytes                                         weight = d q
//
// The K formats hold 256 weights in sub-blocks of 16 or 32, whose scales are themselves packed
// integers:
//
//   Q2_K  16 x (scale, min: 4 bits) | 64 bytes of 2 bits | d dmin     weight = d scale q - dmin min
//   Q3_K  256 third bits | 64 bytes of 2 bits | 16 x 6-bit scale | d  weight = d (scale - 32) (q -
//   4) Q4_K  d dmin | 8 x (scale, min: 6 bits) | 128 bytes of nibbles    weight = d scale q - dmin
//   min Q5_K  as Q4_K with 256 fifth bits before the nibbles Q6_K  128 bytes of nibbles | 64 bytes
//   of 2 bits | 16 signed scales | d  weight = d scale (q - 32)
//
// Loops run over a fixed number of weights without branches, so that the compiler vectorises them;
// the build turns fused multiply-add off for this folder.
#include "checkpoint/gguf_quants.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "checkpoint/float_convert.h"

namespace ssa {
namespace {

float load_half(const uint8_t* bytes) {
  uint16_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return f16_to_f32(bits);
}

/// out[0, 32) = the nibbles: first all low ones, then all high ones.
void unpack_nibbles(const uint8_t* packed, uint8_t* out) {
  for (int j = 0; j < 16; ++j) {
    out[j] = packed[j] & 0x0F;
    out[j + 16] = packed[j] >> 4;
  }
}

/// As unpack_nibbles, with a fifth bit for each from the 32 in front of them.
void unpack_5_bits(const uint8_t* packed, uint8_t* out) {
  uint32_t high;
  std::memcpy(&high, packed, sizeof high);
  unpack_nibbles(packed + sizeof high, out);
  for (uint32_t j = 0; j < 32; ++j) {
    out[j] = static_cast<uint8_t>(out[j] | (((high >> j) & 1U) << 4));
  }
}

void dequantize_q4_0(const uint8_t* block, float* out) {
  const float d = load_half(block);
  uint8_t q[32];
  unpack_nibbles(block + 2, q);
  for (int j = 0; j < 32; ++j) {
    out[j] = d * static_cast<float>(q[j] - 8);
  }
}

void dequantize_q4_1(const uint8_t* block, float* out) {
  const float d = load_half(block);
  const float m = load_half(block + 2);
  uint8_t q[32];
  unpack_nibbles(block + 4, q);
  for (int j = 0; j < 32; ++j) {
    out[j] = d * static_cast<float>(q[j]) + m;
  }
}

void dequantize_q5_0(const uint8_t* block, float* out) {
  const float d = load_half(block);
  uint8_t q[32];
  unpack_5_bits(block + 2, q);
  for (int j = 0; j < 32; ++j) {
    out[j] = d * static_cast<float>(q[j] - 16);
  }
}

void dequantize_q5_1(const uint8_t* block, float* out) {
  const float d = load_half(block);
  const float m = load_half(block + 2);
  uint8_t q[32];
  unpack_5_bits(block + 4, q);
  for (int j = 0; j < 32; ++j) {
    out[j] = d * static_cast<float>(q[j]) + m;
  }
}

void dequantize_q8_0(const uint8_t* block, float* out) {
  const float d = load_half(block);
  for (int j = 0; j < 32; ++j) {
    out[j] = d * static_cast<float>(static_cast<int8_t>(block[2 + j]));
  }
}

void dequantize_q2_k(const uint8_t* block, float* out) {
  const uint8_t* scales = block;
  const uint8_t* packed = block + 16;
  const float d = load_half(block + 80);
  const float dmin = load_half(block + 82);
  for (int sub = 0; sub < 16; ++sub) {  // 16 weights each; eight of them share 32 bytes
    const float scale = d * static_cast<float>(scales[sub] & 0x0F);
    const float min = dmin * static_cast<float>(scales[sub] >> 4);
    const uint8_t* bytes = packed + sub / 8 * 32 + sub % 2 * 16;
    const int shift = sub % 8 / 2 * 2;
    for (int j = 0; j < 16; ++j) {
      out[sub * 16 + j] = scale * static_cast<float>((bytes[j] >> shift) & 3) - min;
    }
  }
}

void dequantize_q3_k(const uint8_t* block, float* out) {
  const uint8_t* high = block;
  const uint8_t* packed = block + 32;
  const uint8_t* scales = block + 96;
  const float d = load_half(block + 108);
  for (int sub = 0; sub < 16; ++sub) {
    const int low_bits = (scales[sub % 8] >> (sub / 8 * 4)) & 0x0F;
    const int high_bits = (scales[8 + sub % 4] >> (sub / 4 * 2)) & 3;
    const float scale = d * static_cast<float>((low_bits | high_bits << 4) - 32);
    const uint8_t* bytes = packed + sub / 8 * 32 + sub % 2 * 16;
    const uint8_t* high_bytes = high + sub % 2 * 16;
    const int shift = sub % 8 / 2 * 2;
    const int high_shift = sub / 2;
    for (int j = 0; j < 16; ++j) {
      const int q = ((bytes[j] >> shift) & 3) | ((high_bytes[j] >> high_shift) & 1) << 2;
      out[sub * 16 + j] = scale * static_cast<float>(q - 4);
    }
  }
}

/// Scales and minima of Q4_K's and Q5_K's eight sub-blocks: the first four lie in the low six bits
/// of bytes 0-3 and 4-7, the others in the nibbles of bytes 8-11 and the upper two bits of bytes
/// 0-7.
struct ScalesAndMins {
  explicit ScalesAndMins(const uint8_t* packed) {
    for (size_t i = 0; i < 4; ++i) {
      scale[i] = packed[i] & 0x3F;
      min[i] = packed[i + 4] & 0x3F;
      scale[i + 4] = (packed[i + 8] & 0x0F) | (packed[i] >> 6) << 4;
      min[i + 4] = packed[i + 8] >> 4 | (packed[i + 4] >> 6) << 4;
    }
  }
  std::array<int, 8> scale;
  std::array<int, 8> min;
};

void dequantize_q4_k(const uint8_t* block, float* out) {
  const float d = load_half(block);
  const float dmin = load_half(block + 2);
  const ScalesAndMins packed(block + 4);
  for (size_t sub = 0; sub < 8; ++sub) {  // 32 weights each; two of them share 32 bytes
    const float scale = d * static_cast<float>(packed.scale[sub]);
    const float min = dmin * static_cast<float>(packed.min[sub]);
    const uint8_t* bytes = block + 16 + sub / 2 * 32;
    const size_t shift = sub % 2 * 4;
    for (size_t j = 0; j < 32; ++j) {
      out[sub * 32 + j] = scale * static_cast<float>((bytes[j] >> shift) & 0x0F) - min;
    }
  }
}

void dequantize_q5_k(const uint8_t* block, float* out) {
  const float d = load_half(block);
  const float dmin = load_half(block + 2);
  const ScalesAndMins packed(block + 4);
  const uint8_t* high = block + 16;
  for (size_t sub = 0; sub < 8; ++sub) {
    const float scale = d * static_cast<float>(packed.scale[sub]);
    const float min = dmin * static_cast<float>(packed.min[sub]);
    const uint8_t* bytes = block + 48 + sub / 2 * 32;
    const size_t shift = sub % 2 * 4;
    for (size_t j = 0; j < 32; ++j) {
      const int q = ((bytes[j] >> shift) & 0x0F) | ((high[j] >> sub) & 1) << 4;
      out[sub * 32 + j] = scale * static_cast<float>(q) - min;
    }
  }
}

void dequantize_q6_k(const uint8_t* block, float* out) {
  const uint8_t* low = block;
  const uint8_t* high = block + 128;
  const uint8_t* scales = block + 192;
  const float d = load_half(block + 208);
  for (int sub = 0; sub < 16;
       ++sub) {  // 16 weights each; eight of them share 64 bytes of `low` and 32 of `high`
    const float scale = d * static_cast<float>(static_cast<int8_t>(scales[sub]));
    const uint8_t* low_bytes = low + sub / 8 * 64 + sub % 4 * 16;
    const int low_shift = sub % 8 / 4 * 4;
    const uint8_t* high_bytes = high + sub / 8 * 32 + sub % 2 * 16;
    const int high_shift = sub % 8 / 2 * 2;
    for (int j = 0; j < 16; ++j) {
      const int q = ((low_bytes[j] >> low_shift) & 0x0F) | ((high_bytes[j] >> high_shift) & 3) << 4;
      out[sub * 16 + j] = scale * static_cast<float>(q - 32);
    }
  }
}

void convert_f32(const uint8_t* number, float* out) {
  std::memcpy(out, number, sizeof *out);
}

void convert_f16(const uint8_t* number, float* out) {
  *out = load_half(number);
}

void convert_bf16(const uint8_t* number, float* out) {
  uint16_t bits;
  std::memcpy(&bits, number, sizeof bits);
  *out = bf16_to_f32(bits);
}

void convert_f64(const uint8_t* number, float* out) {
  double value;
  std::memcpy(&value, number, sizeof value);
  *out = static_cast<float>(value);
}

/// Calls unpack for each block; a template, so that each format's loop is compiled on its own.
template <void (*unpack)(const uint8_t*, float*)>
void for_each_block(GgufType type, std::span<const std::byte> packed, std::span<float> out) {
  const size_t block_size = gguf_block_size(type);
  const size_t block_bytes = gguf_block_bytes(type);
  const auto* block = reinterpret_cast<const uint8_t*>(packed.data());
  for (size_t i = 0; i < out.size(); i += block_size, block += block_bytes) {
    unpack(block, out.data() + i);
  }
}

/// Returns false, with the block unfinished, if a weight is not finite or the scale becomes
/// infinite.
bool quantize_q8_0_block(const float* weights, uint8_t* block) {
  int32_t largest_bits =
      0;  // magnitudes compare like their bits, and those of NaN lie above all others
  for (int j = 0; j < 32; ++j) {
    largest_bits = std::max(largest_bits, std::bit_cast<int32_t>(weights[j]) & 0x7FFFFFFF);
  }
  const auto largest = std::bit_cast<float>(largest_bits);
  const uint16_t scale = f32_to_f16(largest / 127.0F);
  if (!std::isfinite(largest) || !std::isfinite(f16_to_f32(scale))) {
    return false;
  }
  // A scale so small that its inverse is infinite is stored as 0: then the integers are 0 too.
  const float inverse = 1.0F / (largest / 127.0F);
  const float factor = std::isinf(inverse) ? 0.0F : inverse;
  std::memcpy(block, &scale, sizeof scale);
  for (int j = 0; j < 32; ++j) {
    const float scaled = weights[j] * factor;
    const float magnitude = std::fabs(scaled);
    const auto whole = static_cast<int>(magnitude);  // at most 127 and a rounding error
    const int rounded = whole + static_cast<int>(2.0F * (magnitude - static_cast<float>(whole)));
    block[2 + j] = static_cast<uint8_t>(scaled < 0.0F ? -rounded : rounded);  // halves away from 0
  }
  return true;
}

}  // namespace

void dequantize(GgufType type, std::span<const std::byte> packed, std::span<float> out) {
  switch (type) {
    case GgufType::kF32:
      return for_each_block<convert_f32>(type, packed, out);
    case GgufType::kF16:
      return for_each_block<convert_f16>(type, packed, out);
    case GgufType::kBF16:
      return for_each_block<convert_bf16>(type, packed, out);
    case GgufType::kF64:
      return for_each_block<convert_f64>(type, packed, out);
    case GgufType::kQ4_0:
      return for_each_block<dequantize_q4_0>(type, packed, out);
    case GgufType::kQ4_1:
      return for_each_block<dequantize_q4_1>(type, packed, out);
    case GgufType::kQ5_0:
      return for_each_block<dequantize_q5_0>(type, packed, out);
    case GgufType::kQ5_1:
      return for_each_block<dequantize_q5_1>(type, packed, out);
    case GgufType::kQ8_0:
      return for_each_block<dequantize_q8_0>(type, packed, out);
    case GgufType::kQ2_K:
      return for_each_block<dequantize_q2_k>(type, packed, out);
    case GgufType::kQ3_K:
      return for_each_block<dequantize_q3_k>(type, packed, out);
    case GgufType::kQ4_K:
      return for_each_block<dequantize_q4_k>(type, packed, out);
    case GgufType::kQ5_K:
      return for_each_block<dequantize_q5_k>(type, packed, out);
    case GgufType::kQ6_K:
      return for_each_block<dequantize_q6_k>(type, packed, out);
  }
}

bool quantize_q8_0(std::span<const float> weights, std::span<std::byte> packed) {
  auto* block = reinterpret_cast<uint8_t*>(packed.data());
  bool ok = true;
  for (size_t i = 0; i < weights.size(); i += 32, block += 34) {
    ok = quantize_q8_0_block(weights.data() + i, block) && ok;
  }
  return ok;
}

}  // namespace ssa
