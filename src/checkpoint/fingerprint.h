// What tells one model from another.
#pragma once

#include <string>

#include "checkpoint/checkpoint.h"

namespace ssa {

/// 16 hexadecimal digits over the configuration, every tensor's name and shape, all vectors (norms,
/// biases) and the whole last layer: a fine-tuned model differs there. Reads those tensors.
std::string fingerprint(const Checkpoint& checkpoint);

}  // namespace ssa
