// Which tensors an architecture reads, known before any is loaded.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"

namespace ssa {

struct ExpectedTensor {
  std::string name;            // Hugging Face's
  std::vector<int64_t> shape;  // linear layers: [out_features, in_features]
};

/// All tensors that `config` needs, in the order of the forward pass. A tied lm_head.weight is not
/// among them.
std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config);

/// Throws Error listing the tensors that `checkpoint` lacks or has in another shape: name,
/// expected, found (the first few, and how many more).
void check_tensors(const Checkpoint& checkpoint);

/// "[3, 4]".
std::string format_shape(const std::vector<int64_t>& shape);

}  // namespace ssa
