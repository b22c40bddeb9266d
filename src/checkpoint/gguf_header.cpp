#include "checkpoint/gguf_header.h"

#include <limits>

#include "base/error.h"

namespace ssa {
namespace {

template <class T>
void append_number(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_string(std::string& out, std::string_view text) {
  append_number<uint64_t>(out, text.size());
  out.append(text);
}

}  // namespace

uint64_t gguf_padding(uint64_t size) {
  return (GgufHeader::kAlignment - size % GgufHeader::kAlignment) % GgufHeader::kAlignment;
}

void GgufHeader::add_key(std::string_view key, GgufValueType type) {
  append_string(keys_, key);
  append_number(keys_, static_cast<uint32_t>(type));
  ++n_keys_;
}

void GgufHeader::add_uint32(std::string_view key, int64_t value) {
  check(value >= 0 && value <= std::numeric_limits<uint32_t>::max(),
        "key '",
        key,
        "': ",
        value,
        " does not fit into GGUF's 32 bits");
  add_key(key, GgufValueType::kUint32);
  append_number(keys_, static_cast<uint32_t>(value));
}

void GgufHeader::add_float32(std::string_view key, double value) {
  add_key(key, GgufValueType::kFloat32);
  append_number(keys_, static_cast<float>(value));
}

void GgufHeader::add_float64(std::string_view key, double value) {
  add_key(key, GgufValueType::kFloat64);
  append_number(keys_, value);
}

void GgufHeader::add_bool(std::string_view key, bool value) {
  add_key(key, GgufValueType::kBool);
  append_number<uint8_t>(keys_, value ? 1 : 0);
}

void GgufHeader::add_string(std::string_view key, std::string_view value) {
  add_key(key, GgufValueType::kString);
  append_string(keys_, value);
}

void GgufHeader::add_strings(std::string_view key, std::span<const std::string> values) {
  add_key(key, GgufValueType::kArray);
  append_number(keys_, static_cast<uint32_t>(GgufValueType::kString));
  append_number<uint64_t>(keys_, values.size());
  for (const std::string& value : values) {
    append_string(keys_, value);
  }
}

void GgufHeader::add_int32s(std::string_view key, std::span<const int32_t> values) {
  add_key(key, GgufValueType::kArray);
  append_number(keys_, static_cast<uint32_t>(GgufValueType::kInt32));
  append_number<uint64_t>(keys_, values.size());
  for (const int32_t value : values) {
    append_number(keys_, value);
  }
}

void GgufHeader::add_tensor(std::string_view name,
                            GgufType type,
                            std::span<const int64_t> shape,
                            uint64_t n_bytes) {
  append_string(tensors_, name);
  append_number(tensors_, static_cast<uint32_t>(shape.size()));
  for (size_t i = shape.size(); i-- > 0;) {
    append_number(tensors_, shape[i]);
  }
  append_number(tensors_, static_cast<uint32_t>(type));
  append_number(tensors_, data_size_);
  data_size_ += n_bytes + gguf_padding(n_bytes);
  ++n_tensors_;
}

std::string GgufHeader::bytes() const {
  constexpr uint32_t kVersion = 3;
  std::string bytes = "GGUF";
  append_number(bytes, kVersion);
  append_number(bytes, n_tensors_);
  append_number(bytes, n_keys_);
  bytes += keys_;
  bytes += tensors_;
  bytes.append(gguf_padding(bytes.size()), '\0');
  return bytes;
}

}  // namespace ssa
