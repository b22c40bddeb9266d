// The GGUF container: metadata and where the tensors lie, checked against the file before anything
// else reads it.
//
//   | "GGUF" | version u32 | n_tensors u64 | n_keys u64 | keys               | tensor infos |
//   padding | data ... |
//                                                       name, type, value    name, shape, type,
//                                                                            offset into data
//
// A string is its length (u64) and its bytes; an array is its element type (u32), its size (u64)
// and its elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/gguf_types.h"
#include "checkpoint/gguf_value.h"

namespace ssa {

struct GgufTensor {
  std::string name;  // as in the file: "blk.0.attn_q.weight"
  GgufType type = GgufType::kF32;
  std::vector<int64_t> shape;        // rows first, as everywhere else; the file has it reversed
  std::span<const std::byte> bytes;  // row-major
};

/// A parsed GGUF file of version 2 or 3, little-endian. Owns the mapping; metadata and tensors
/// point into it. Immutable and safe to read from many threads. Memory used beside the mapping is a
/// small multiple of the header's size.
class GgufFile {
 public:
  /// Maps and parses the file. Throws Error "PATH: ..." naming the key or tensor that is broken.
  explicit GgufFile(const std::filesystem::path& path);
  /// Parses `bytes`, which must outlive this; `name` stands for the path in errors.
  GgufFile(std::span<const std::byte> bytes, std::string name);

  const std::string& name() const { return name_; }
  /// In the file's order.
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  /// nullptr if there is none of that name.
  const GgufTensor* find_tensor(std::string_view name) const;
  /// nullptr if there is no such key.
  const GgufValue* find(std::string_view key) const;

  // The value of `key`, nothing if there is none; they throw Error naming the key if it has another
  // type.
  std::optional<int64_t> integer(std::string_view key) const;
  std::optional<double> number(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string_view> string(std::string_view key) const;
  std::optional<std::vector<std::string_view>> strings(std::string_view key) const;
  std::optional<std::vector<int64_t>> integers(std::string_view key) const;
  /// As integer(), but throws Error if the key is missing.
  int64_t required_integer(std::string_view key) const;
  /// As integer(), but nothing also for the -1 or 2^32 - 1 that stands for no token; throws Error
  /// for an id that is not below `n_tokens`.
  std::optional<int64_t> token_id(std::string_view key, int64_t n_tokens) const;

 private:
  void parse(std::span<const std::byte> bytes);
  template <class T>
  std::optional<T> decode(std::string_view key,
                          const char* expected,
                          std::optional<T> (*decoder)(const GgufValue&)) const;

  std::string name_;
  std::optional<MappedFile> mapping_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string_view, size_t> tensor_index_;  // keys point into tensors_
};

/// Calls fn and gives its result; an Error gets the file's name in front, unless it has it.
template <class Fn>
auto naming_file(const GgufFile& file, Fn fn) {
  try {
    return fn();
  } catch (const Error& error) {
    const std::string message = error.what();
    fail(message.starts_with(file.name()) ? message : file.name() + ": " + message);
  }
}

}  // namespace ssa
