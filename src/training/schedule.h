// The learning rate over a run.
#pragma once

#include <cstdint>
#include <string>

namespace ssa {

enum class Decay { kConstant, kCosine, kLinear };
/// "constant", "cosine", "linear"; throws Error naming them.
Decay parse_decay(const std::string& name);

struct Schedule {
  double peak = 1e-4;
  int64_t warmup_steps = 0;  // from peak / (warmup_steps + 1) up to the peak
  int64_t total_steps = 1;
  Decay decay = Decay::kCosine;
  double min_ratio = 0.0;  // what is left of the peak at the end

  /// The rate of step 1, 2, ... total_steps; behind these it stays.
  double at(int64_t step) const;
};

}  // namespace ssa
