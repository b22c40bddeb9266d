// Rotary embedding's part of config.json.
#pragma once

#include <cstdint>

#include "base/json.h"
#include "checkpoint/model_config.h"

namespace ssa {

/// Reads rope_scaling and rope_theta, or rope_parameters, from config.json's content; as in
/// transformers, the former wins if both are there. A llama3 or yarn dict that does not name
/// original_max_position_embeddings gets `max_positions`. Throws Error naming the key, and for a
/// type that is not supported.
RopeConfig parse_rope(const Json& config, int64_t max_positions);

/// Throws Error naming the key for a value with which the frequencies would not be finite.
void check_rope(const RopeConfig& rope);

/// The dict behind rope_parameters: rope_type, the type's own keys and rope_theta.
Json rope_parameters(const RopeConfig& rope);

}  // namespace ssa
