// Writing a GGUF file's header (version 3, little-endian).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/gguf_types.h"
#include "checkpoint/gguf_value.h"

namespace ssa {

/// Collects keys and tensor infos, then gives the header's bytes; the tensors follow it in the
/// order of add_tensor, each padded to kAlignment. Keys and names must be distinct. Not
/// thread-safe.
class GgufHeader {
 public:
  static constexpr uint64_t kAlignment = 32;

  /// Throws Error naming the key if the value is negative or needs more than 32 bits.
  void add_uint32(std::string_view key, int64_t value);
  void add_float32(std::string_view key, double value);
  void add_float64(std::string_view key, double value);
  void add_bool(std::string_view key, bool value);
  void add_string(std::string_view key, std::string_view value);
  void add_strings(std::string_view key, std::span<const std::string> values);
  void add_int32s(std::string_view key, std::span<const int32_t> values);

  /// `shape` rows first; `n_bytes` as stored, without padding.
  void add_tensor(std::string_view name,
                  GgufType type,
                  std::span<const int64_t> shape,
                  uint64_t n_bytes);

  /// The whole header, padded to where the first tensor begins.
  std::string bytes() const;

 private:
  void add_key(std::string_view key, GgufValueType type);

  std::string keys_;
  uint64_t n_keys_ = 0;
  std::string tensors_;
  uint64_t n_tensors_ = 0;
  uint64_t data_size_ = 0;  // padded
};

/// Bytes from `size` to the next multiple of the alignment.
uint64_t gguf_padding(uint64_t size);

}  // namespace ssa
