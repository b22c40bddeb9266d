// A checksum against damaged files; not against forged ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ssa {

/// 64 bits of which every input bit changes about half. Several GB/s. `seed` chains parts.
uint64_t checksum(std::span<const std::byte> bytes, uint64_t seed = 0);

}  // namespace ssa
