// Element types of stored tensors.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ssa {

/// The plain types, named as in safetensors. GGUF's block formats are dequantised on load and have
/// their own enum.
enum class DType { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU64, kU32, kU16, kU8, kBool };

/// Bytes of one element.
size_t dtype_size(DType dtype);

/// "F32", "BF16", ...: safetensors' names.
std::string_view dtype_name(DType dtype);

/// The type of that safetensors name; throws Error listing the known ones.
DType parse_dtype(std::string_view name);

/// "float32", "bfloat16", ...: the names in a config.json (F64, F32, F16 and BF16 only).
std::string_view config_dtype_name(DType dtype);

}  // namespace ssa
