// What the machine's memory holds.
#pragma once

#include <cstdint>

namespace ssa {

/// The largest resident set this process has had, in bytes.
uint64_t peak_resident_bytes();

/// Memory that can be had without swapping, in bytes: the machine's, or the control group's limit
/// if that is lower.
uint64_t available_memory_bytes();

}  // namespace ssa
