// GGUF's block formats: weights of a row packed in blocks of 32 or 256 with their scales.
//
// A format's formula is what defines the stored weight, so the floats made here are bit for bit
// those of the gguf package's reference (each product and sum rounded to float, none fused).
#pragma once

#include <cstddef>
#include <span>

#include "checkpoint/gguf_types.h"

namespace ssa {

/// Unpacks whole blocks of `type` (or plain F32, F16, BF16, F64 numbers, rounded to float).
/// `packed` holds exactly the blocks of `out.size()` weights, which the caller has checked.
void dequantize(GgufType type, std::span<const std::byte> packed, std::span<float> out);

/// Packs weights, a multiple of 32, into `packed`, 34 bytes per block. Returns false if a weight is
/// not finite or too large for the block's half-precision scale; `packed` is then useless.
[[nodiscard]] bool quantize_q8_0(std::span<const float> weights, std::span<std::byte> packed);

}  // namespace ssa
