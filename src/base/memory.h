// What the machine's memory holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ssa {

/// The largest resident set this process has had, in bytes.
uint64_t peak_resident_bytes();

/// Memory that can be had without swapping, in bytes: the machine's, or the control group's limit
/// if that is lower.
uint64_t available_memory_bytes();

/// Gives freed memory back to the system, where the C library can: after loading, which needs much
/// that nobody needs later.
void return_freed_memory() noexcept;

/// Takes the pages that lie within these bytes of a mapped file out of this process's memory; they
/// come back from the file when they are next read. The bytes must be of a MappedFile: others would
/// be lost.
void forget_mapped_pages(std::span<const std::byte> bytes) noexcept;

/// Takes the code of this program and its libraries out of this process's memory; what still runs
/// comes back from the files as it runs. Worth it once the work has begun: starting up runs through
/// much code that the work has no use for, LibTorch's above all. Any thread, at any time.
void forget_program_code() noexcept;

}  // namespace ssa
