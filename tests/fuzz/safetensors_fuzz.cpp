// Any bytes as a safetensors file: refused with an Error, or described so that every tensor's bytes
// may be read.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "base/error.h"
#include "checkpoint/safetensors_header.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  try {
    const ssa::SafetensorsHeader header = ssa::parse_safetensors_header(file, "fuzz");
    uint64_t total = 0;
    unsigned sum = 0;
    for (const auto& [name, entry] : header.tensors) {
      uint64_t expected = ssa::dtype_size(entry.dtype);
      for (const int64_t n : entry.shape) {
        expected *= static_cast<uint64_t>(n);
      }
      if (entry.end - entry.begin != expected) {
        std::abort();
      }
      for (uint64_t i = entry.begin; i < entry.end; ++i) {
        sum += data[header.data_begin + i];
      }
      total += expected;
    }
    if (total != header.data_size || sum > 255 * total) {
      std::abort();
    }
  } catch (const ssa::Error&) {
  }
  return 0;
}
