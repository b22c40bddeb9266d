// The element types of tensors in a GGUF file: plain numbers, and block formats that pack 32 or 256
// weights of a row with their scales.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "checkpoint/dtype.h"

namespace ssa {

/// The types that can be read. The numbers are those stored in files.
enum class GgufType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kF64 = 28,
  kBF16 = 30,
};

/// The readable type of that number, or nothing.
std::optional<GgufType> find_gguf_type(uint32_t number);
/// "Q4_1"; for numbers of types that cannot be read too ("IQ4_NL"), and "type 77" for unknown ones.
std::string gguf_type_name(uint32_t number);
inline std::string gguf_type_name(GgufType type) {
  return gguf_type_name(static_cast<uint32_t>(type));
}
/// "F32 F16 ...": the readable types, for error messages.
std::string readable_gguf_types();

/// Weights in one block; 1 for plain types.
size_t gguf_block_size(GgufType type);
/// Bytes of one block.
size_t gguf_block_bytes(GgufType type);
/// The plain type as a DType; nothing for block formats.
std::optional<DType> plain_dtype(GgufType type);

/// general.file_type of a file whose matrices have this type; nothing where there is none (F64).
std::optional<uint32_t> gguf_file_type(GgufType type);

}  // namespace ssa
