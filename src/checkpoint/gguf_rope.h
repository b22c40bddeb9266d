// Rotary embedding in GGUF: metadata keys, and for llama3 scaling a tensor.
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_header.h"
#include "checkpoint/gguf_model_keys.h"
#include "checkpoint/model_config.h"

namespace ssa {

/// Reads the rotary embedding for a model whose other sizes `config` has. Throws Error naming the
/// key or tensor that is not supported.
RopeConfig read_gguf_rope(const GgufFile& file,
                          const GgufModelKeys& keys,
                          const ModelConfig& config);

/// Adds the keys that llama.cpp reads, and under "ssa." where llama3's divisors come from. Throws
/// Error for a scaling that llama.cpp would misread.
void write_gguf_rope(const ModelConfig& config, GgufHeader& header);

/// What the rotary frequencies are divided by under llama3 scaling: rope_freqs.weight
/// [head_dim / 2].
std::vector<float> llama3_rope_divisors(const RopeConfig& rope, int64_t head_dim);

}  // namespace ssa
