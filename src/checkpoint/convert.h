// Conversion of whole checkpoints between formats.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/progress.h"
#include "checkpoint/checkpoint.h"

namespace ssa {

struct ConvertOptions {
  std::string type;  // "" keeps each tensor's; f32, bf16, f16; q8_0 in GGUF only
  uint64_t shard_bytes = 5'000'000'000;  // of a Hugging Face directory's files
  ProgressFn progress = {};              // bytes written
};

/// Reads the checkpoint `in` (Hugging Face directory or GGUF) and writes `out`: GGUF if its name
/// ends in .gguf, else a Hugging Face directory. Throws Error for an unknown type (listing the
/// known ones), for `out` being `in`, and for what reading and writing throw; `out` is then as it
/// was.
void convert_checkpoint(const std::filesystem::path& in,
                        const std::filesystem::path& out,
                        const ConvertOptions& options = {});
/// The same for a checkpoint that is open.
void convert_checkpoint(const Checkpoint& source,
                        const std::filesystem::path& out,
                        const ConvertOptions& options = {});

}  // namespace ssa
