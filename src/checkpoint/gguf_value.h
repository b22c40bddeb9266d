// Metadata values of a GGUF file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ssa {

/// Types of metadata values. The numbers are those stored in files.
enum class GgufValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

/// One metadata value as it stands in the file; its bytes have been checked.
struct GgufValue {
  GgufValueType type = GgufValueType::kUint8;
  GgufValueType element_type = GgufValueType::kUint8;  // of an array
  uint64_t size = 0;                                   // elements of an array
  std::span<const std::byte>
      bytes;  // a number; a string's characters; an array's elements one behind the other
};

/// Bytes of a value of fixed size; 0 for strings and arrays.
uint64_t gguf_value_bytes(GgufValueType type);

// What a value says; nothing if it has another type. Integers of any width are taken for one
// another as long as the value fits into 63 bits; a float32 is read as the shortest decimal that
// stands for it, so that 1e-5 stays 1e-5.
std::optional<int64_t> decode_integer(const GgufValue& value);
std::optional<double> decode_number(const GgufValue& value);
std::optional<bool> decode_boolean(const GgufValue& value);
std::optional<std::string_view> decode_string(const GgufValue& value);
std::optional<std::vector<std::string_view>> decode_strings(const GgufValue& value);
std::optional<std::vector<int64_t>> decode_integers(const GgufValue& value);

/// A text from the file for an error line: in quotes, cut to 80 bytes, one line of valid UTF-8.
std::string printable(std::string_view text);

}  // namespace ssa
