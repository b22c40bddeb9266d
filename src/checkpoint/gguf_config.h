// A model's configuration as GGUF metadata.
#pragma once

#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_header.h"
#include "checkpoint/model_config.h"

namespace ssa {

/// Reads the configuration out of the metadata and of which tensors there are. `raw` stays null.
/// Throws Error "FILE: ..." naming the key that is missing, misshapen or asks for what is not
/// supported.
ModelConfig read_gguf_config(const GgufFile& file);

/// Adds the keys that llama.cpp reads, and under "ssa." what it has no key for. Throws Error for a
/// configuration that llama.cpp would misread.
void write_gguf_config(const ModelConfig& config, GgufHeader& header);

}  // namespace ssa
