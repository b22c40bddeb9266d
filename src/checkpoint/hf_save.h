// Saving any checkpoint as a Hugging Face directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "base/progress.h"
#include "checkpoint/checkpoint.h"

namespace ssa {

struct HfSaveOptions {
  std::optional<DType> dtype = {};       // of all floating tensors; absent: each keeps its bits
  uint64_t shard_bytes = 5'000'000'000;  // as transformers 4 splits
  ProgressFn progress = {};              // bytes written
};

/// Writes config.json, generation_config.json, tokenizer.json, tokenizer_config.json,
/// chat_template.jinja (each if `source` has it) and the tensors as safetensors. transformers 4 and
/// 5 load the outcome. A tied lm_head.weight that equals the embedding is left out. All is written
/// into a folder beside `folder` that takes its name at the end; after an error, or
/// remove_interrupted_files(), nothing is left of it. Throws Error if `folder` exists and is not an
/// empty folder, if a tensor cannot be read or converted, or if writing fails.
void save_hf_checkpoint(const Checkpoint& source,
                        const std::filesystem::path& folder,
                        const HfSaveOptions& options = {});

}  // namespace ssa
