// Writing a checkpoint as a GGUF file that llama.cpp opens.
#pragma once

#include <filesystem>
#include <string>

#include "base/progress.h"
#include "checkpoint/checkpoint.h"

namespace ssa {

struct GgufSaveOptions {
  /// "f32", "bf16" or "q8_0"; "" keeps what the source has: the stored blocks of a GGUF file bit
  /// for bit, of other sources F32, F16 and BF16 (F64 becomes F32). Norms and biases become F32
  /// whatever this says, and a matrix whose rows are no multiple of 32 long becomes F32 instead of
  /// Q8_0.
  std::string type = {};
  ProgressFn progress = {};  // bytes written
};

/// Writes the tensors that the configuration calls for, its metadata and the tokenizer, if there is
/// one. Memory stays bounded by the largest tensor that the source cannot map. The file appears
/// whole or not at all. Throws Error naming what is missing, misshapen or cannot be expressed in
/// GGUF.
void save_gguf_checkpoint(const Checkpoint& source,
                          const std::filesystem::path& file,
                          const GgufSaveOptions& options);

}  // namespace ssa
