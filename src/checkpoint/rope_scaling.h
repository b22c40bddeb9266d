// Longer contexts than a model was trained on, asked for when it is run.
#pragma once

#include <string>

#include "checkpoint/model_config.h"

namespace ssa {

/// Puts another scaling of the rotary embedding in the place of the one that `config` names:
/// "none", or TYPE:FACTOR[:ORIGINAL], TYPE one of linear, llama3 and yarn. ORIGINAL is the length
/// trained on, by default what config says, and the model has FACTOR times as many positions from
/// then on. llama3's low and high frequency factors are 1 and 4. Throws UsageError for another form
/// and for values out of range.
void scale_rope(ModelConfig& config, const std::string& scaling);

}  // namespace ssa
