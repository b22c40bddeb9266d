// The header of a safetensors file: what it names, checked against the file before anything else
// reads it.
//
//   | 8 bytes: N, little-endian | N bytes of JSON                              | data | (anything)
//   |
//                               {"NAME": {"dtype", "shape", "data_offsets"}, ...}  begin, end count
//                               from here
//
// Ordered by offset, the tensors cover the data without a hole or an overlap, as the official
// library demands. Unlike it we allow bytes behind the last tensor, which some published files
// have, and refuse a name that occurs twice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/dtype.h"

namespace ssa {

/// Half-open range of bytes [begin, end), counted from the data's start.
struct SafetensorsEntry {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> tensors;
  std::map<std::string, std::string> metadata;  // the header's __metadata__
  uint64_t data_begin = 0;                      // where the data starts in the file
  uint64_t data_size = 0;                       // end of the last tensor
};

/// The largest header the official library reads.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

/// Reads and checks the header of a whole file in memory. Every entry's bytes lie inside `file`,
/// hold exactly its elements and belong to no other. Throws Error "NAME: ..." saying which tensor,
/// what was expected and what is there.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, std::string_view name);

}  // namespace ssa
