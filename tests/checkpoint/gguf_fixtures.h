// What the GGUF tests share: files built by hand, right or wrong in one place.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_header.h"

namespace ssa {

/// Bytes appended one number or string after the other.
class GgufBytes {
 public:
  template <class T>
  GgufBytes& number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  GgufBytes& u32(uint32_t value) { return number(value); }
  GgufBytes& u64(uint64_t value) { return number(value); }
  GgufBytes& text(std::string_view text) {
    bytes_ += text;
    return *this;
  }
  GgufBytes& string(std::string_view value) { return u64(value.size()).text(value); }
  GgufBytes& header(uint64_t n_tensors, uint64_t n_keys, uint32_t version = 3) {
    return text("GGUF").u32(version).u64(n_tensors).u64(n_keys);
  }
  /// A tensor info; `shape` in the file's order.
  GgufBytes& tensor(std::string_view name,
                    std::vector<uint64_t> shape,
                    uint32_t type,
                    uint64_t offset) {
    string(name).u32(static_cast<uint32_t>(shape.size()));
    for (const uint64_t size : shape) u64(size);
    return u32(type).u64(offset);
  }
  /// Zeros up to a multiple of 32 and `n` more.
  GgufBytes& data(size_t n) {
    bytes_.append(gguf_padding(bytes_.size()) + n, '\0');
    return *this;
  }
  operator std::string() const { return bytes_; }

 private:
  std::string bytes_;
};

inline GgufFile parse_gguf(const std::string& bytes) {
  return GgufFile(std::as_bytes(std::span(bytes)), "x.gguf");
}

/// The keys of a llama with one layer: 2 heads of 32, hidden size 64, vocabulary 8.
inline GgufHeader tiny_llama_header(std::string_view without = "",
                                    const std::string& architecture = "llama") {
  GgufHeader header;
  header.add_string("general.architecture", architecture);
  const auto add = [&](const std::string& key, int64_t value) {
    if (key != without) header.add_uint32(architecture + "." + key, value);
  };
  add("block_count", 1);
  add("context_length", 256);
  add("embedding_length", 64);
  add("feed_forward_length", 96);
  add("attention.head_count", 2);
  add("vocab_size", 8);
  return header;
}

}  // namespace ssa
