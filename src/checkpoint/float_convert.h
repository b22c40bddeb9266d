// Conversion between the floating types that weights are stored in.
#pragma once

#include <cstdint>

#include "checkpoint/host_tensor.h"

namespace ssa {

/// IEEE binary16 bits as a float; exact, NaN payloads kept.
float f16_to_f32(uint16_t bits);
/// Rounds to nearest, ties to even; beyond the range becomes infinity, NaN stays a (quiet) NaN.
uint16_t f32_to_f16(float value);
/// bfloat16 is the upper half of a float: exact.
float bf16_to_f32(uint16_t bits);
/// Rounds to nearest, ties to even; NaN stays a (quiet) NaN.
uint16_t f32_to_bf16(float value);

/// True for F64, F32, F16 and BF16.
bool is_floating(DType dtype);

/// `tensor` in another floating type, each element rounded once. Returns `tensor` itself, sharing
/// its bytes, if it has that type already. Throws Error naming the types if either is not floating,
/// and with `what` in front if a finite value would become infinite.
HostTensor convert_floats(const HostTensor& tensor, DType dtype, const char* what);

}  // namespace ssa
