// A tensor's bytes in host memory, without a tensor library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "checkpoint/dtype.h"

namespace ssa {

/// Dense, row-major, little-endian. `bytes` points into what `owner` keeps alive (a mapped file, a
/// buffer); copying is cheap and shares it. Read-only.
struct HostTensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
  bool is_mapped = false;  // bytes lie in a mapped file
};

}  // namespace ssa
