// A model's configuration as GGUF metadata.
#pragma once

#include <vector>

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

/// What the rotary frequencies are divided by under llama3 scaling: rope_freqs.weight [head_dim /
/// 2].
std::vector<float> llama3_rope_divisors(const RopeConfig& rope, int64_t head_dim);

}  // namespace ssa
