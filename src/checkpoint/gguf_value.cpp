#include "checkpoint/gguf_value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/text.h"

namespace ssa {
namespace {

template <class T>
T load(std::span<const std::byte> bytes, size_t index = 0) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The integer at `index` of `bytes`; nothing if `type` is no integer type or the value needs more
/// than 63 bits.
std::optional<int64_t> load_integer(GgufValueType type,
                                    std::span<const std::byte> bytes,
                                    size_t index) {
  switch (type) {
    case GgufValueType::kUint8:
      return load<uint8_t>(bytes, index);
    case GgufValueType::kInt8:
      return load<int8_t>(bytes, index);
    case GgufValueType::kUint16:
      return load<uint16_t>(bytes, index);
    case GgufValueType::kInt16:
      return load<int16_t>(bytes, index);
    case GgufValueType::kUint32:
      return load<uint32_t>(bytes, index);
    case GgufValueType::kInt32:
      return load<int32_t>(bytes, index);
    case GgufValueType::kInt64:
      return load<int64_t>(bytes, index);
    case GgufValueType::kUint64: {
      const auto value = load<uint64_t>(bytes, index);
      const bool fits = value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
      return fits ? std::optional(static_cast<int64_t>(value)) : std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

/// The decimal with the fewest digits that is read back as `value`.
double shortest_decimal(float value) {
  std::array<char, 32> digits{};
  const auto written = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  double decimal = value;  // stays for infinities and NaN, which from_chars reads anyway
  std::from_chars(digits.data(), written.ptr, decimal);
  return decimal;
}

}  // namespace

uint64_t gguf_value_bytes(GgufValueType type) {
  switch (type) {
    case GgufValueType::kUint8:
    case GgufValueType::kInt8:
    case GgufValueType::kBool:
      return 1;
    case GgufValueType::kUint16:
    case GgufValueType::kInt16:
      return 2;
    case GgufValueType::kUint32:
    case GgufValueType::kInt32:
    case GgufValueType::kFloat32:
      return 4;
    case GgufValueType::kUint64:
    case GgufValueType::kInt64:
    case GgufValueType::kFloat64:
      return 8;
    case GgufValueType::kString:
    case GgufValueType::kArray:
      return 0;
  }
  return 0;
}

std::optional<int64_t> decode_integer(const GgufValue& value) {
  return load_integer(value.type, value.bytes, 0);
}

std::optional<double> decode_number(const GgufValue& value) {
  if (value.type == GgufValueType::kFloat32) {
    return shortest_decimal(load<float>(value.bytes));
  }
  if (value.type == GgufValueType::kFloat64) {
    return load<double>(value.bytes);
  }
  return decode_integer(value);
}

std::optional<bool> decode_boolean(const GgufValue& value) {
  if (value.type != GgufValueType::kBool) {
    return std::nullopt;
  }
  return load<uint8_t>(value.bytes) != 0;
}

std::optional<std::string_view> decode_string(const GgufValue& value) {
  if (value.type != GgufValueType::kString) {
    return std::nullopt;
  }
  return as_text(value.bytes);
}

std::optional<std::vector<std::string_view>> decode_strings(const GgufValue& value) {
  if (value.type != GgufValueType::kArray || value.element_type != GgufValueType::kString) {
    return std::nullopt;
  }
  std::vector<std::string_view> strings;
  strings.reserve(value.size);
  for (auto rest = value.bytes; !rest.empty();) {
    const auto length = load<uint64_t>(rest);
    strings.push_back(as_text(rest.subspan(sizeof length, length)));
    rest = rest.subspan(sizeof length + length);
  }
  return strings;
}

std::optional<std::vector<int64_t>> decode_integers(const GgufValue& value) {
  if (value.type != GgufValueType::kArray || gguf_value_bytes(value.element_type) == 0) {
    return std::nullopt;
  }
  std::vector<int64_t> integers;
  integers.reserve(value.size);
  for (uint64_t i = 0; i < value.size; ++i) {
    const auto integer = load_integer(value.element_type, value.bytes, i);
    if (!integer) {
      return std::nullopt;
    }
    integers.push_back(*integer);
  }
  return integers;
}

std::string printable(std::string_view text) {
  std::string line = concat("'", replace_invalid_utf8(text.substr(0, 80)), "'");
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return line;
}

}  // namespace ssa
