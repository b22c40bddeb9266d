#include "checkpoint/float_convert.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace ssa {
namespace {

// How each stored type is read and written: as the widest type that the conversion needs. A double
// is rounded once, straight to the target: by way of float it would be rounded twice.
struct F64 {
  using Stored = double;
  static double load(double v) { return v; }
  static double store(double v) { return v; }
};
struct F32 {
  using Stored = float;
  static float load(float v) { return v; }
  static float store(float v) { return v; }
  static float store(double v) { return static_cast<float>(v); }
};

/// A double as the float that rounds to the same 16-bit value: rounded to odd, so that the bits cut
/// off still tell a tie from what lies beside it.
float round_to_odd(double v) {
  const auto nearest = static_cast<float>(v);
  const auto bits = std::bit_cast<uint32_t>(nearest);
  if (static_cast<double>(nearest) == v || std::isnan(v) || (bits & 1) != 0) {
    return nearest;
  }
  if (std::isinf(nearest)) {
    return nearest;  // far beyond both 16-bit ranges' rounding boundaries
  }
  // The exact value lies between `nearest`, whose last bit is even, and its neighbour on that side.
  const bool away_from_zero = std::abs(v) > std::abs(static_cast<double>(nearest));
  if (nearest == 0.0F) {
    return std::copysign(std::bit_cast<float>(uint32_t{1}), static_cast<float>(v));
  }
  return std::bit_cast<float>(away_from_zero ? bits + 1 : bits - 1);
}

struct F16 {
  using Stored = uint16_t;
  static float load(uint16_t v) { return f16_to_f32(v); }
  static uint16_t store(float v) { return f32_to_f16(v); }
  static uint16_t store(double v) { return f32_to_f16(round_to_odd(v)); }
};
struct BF16 {
  using Stored = uint16_t;
  static float load(uint16_t v) { return bf16_to_f32(v); }
  static uint16_t store(float v) { return f32_to_bf16(v); }
  static uint16_t store(double v) { return f32_to_bf16(round_to_odd(v)); }
};

/// Calls fn with the format that stands for `dtype`.
template <class Fn>
void with_format(DType dtype, Fn fn) {
  switch (dtype) {
    case DType::kF64:
      return fn(F64{});
    case DType::kF32:
      return fn(F32{});
    case DType::kF16:
      return fn(F16{});
    case DType::kBF16:
      return fn(BF16{});
    default:
      fail("element type ", dtype_name(dtype), " cannot be converted (only F64 F32 F16 BF16 can)");
  }
}

/// Converts n elements; returns how many finite values became infinite.
template <class From, class To>
size_t convert(const std::byte* in, std::byte* out, size_t n) {
  size_t overflowed = 0;
  for (size_t i = 0; i < n; ++i) {
    typename From::Stored stored;
    std::memcpy(&stored, in + i * sizeof stored, sizeof stored);
    const auto value = From::load(stored);
    const typename To::Stored converted = To::store(value);
    overflowed += std::isinf(To::load(converted)) && !std::isinf(value);
    std::memcpy(out + i * sizeof converted, &converted, sizeof converted);
  }
  return overflowed;
}

}  // namespace

float f16_to_f32(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000U) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1FU;
  const uint32_t fraction = bits & 0x3FFU;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  const uint32_t wide_exponent = exponent == 0x1F ? 0xFFU : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide_exponent << 23) | (fraction << 13));
}

uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000U;
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) {  // NaN: keep what fits of the payload, and be quiet
    return static_cast<uint16_t>(sign | 0x7E00U | ((magnitude >> 13) & 0x1FFU));
  }
  if (magnitude >=
      0x477FF000U) {  // 65520, halfway between the largest half and 2^16, and all beyond
    return static_cast<uint16_t>(sign | 0x7C00U);
  }
  if (magnitude < 0x38800000U) {  // below 2^-14: a multiple of 2^-24, to which adding 0.5 rounds
    const float rounded = std::bit_cast<float>(magnitude) + 0.5F;  // an ulp of [0.5, 1) is 2^-24
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(rounded) - 0x3F000000U));
  }
  const uint32_t rebiased = magnitude - ((127U - 15U) << 23);
  const uint32_t half = 0xFFFU + ((rebiased >> 13) & 1U);  // ties go to the even neighbour
  return static_cast<uint16_t>(sign | ((rebiased + half) >> 13));
}

float bf16_to_f32(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) {
    return static_cast<uint16_t>((bits >> 16) | 0x40U);
  }
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

bool is_floating(DType dtype) {
  return dtype == DType::kF64 || dtype == DType::kF32 || dtype == DType::kF16 ||
         dtype == DType::kBF16;
}

HostTensor convert_floats(const HostTensor& tensor, DType dtype, const char* what) {
  if (tensor.dtype == dtype) {
    return tensor;
  }
  const size_t n = tensor.bytes.size() / dtype_size(tensor.dtype);
  auto buffer = std::make_shared<std::vector<std::byte>>(n * dtype_size(dtype));
  size_t overflowed = 0;
  with_format(tensor.dtype, [&]<class From>(From) {
    with_format(dtype, [&]<class To>(To) {
      if constexpr (!std::is_same_v<From, To>) {
        overflowed = convert<From, To>(tensor.bytes.data(), buffer->data(), n);
      }
    });
  });
  check(overflowed == 0,
        what,
        ": ",
        overflowed,
        " of ",
        n,
        " values lie beyond the range of ",
        dtype_name(dtype));
  return {dtype, tensor.shape, *buffer, buffer};
}

}  // namespace ssa
