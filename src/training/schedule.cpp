#include "training/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace ssa {

Decay parse_decay(const std::string& name) {
  if (name == "constant") {
    return Decay::kConstant;
  }
  if (name == "cosine") {
    return Decay::kCosine;
  }
  check(name == "linear",
        "lr_scheduler.decay '",
        name,
        "' is not known; known are constant, cosine, linear");
  return Decay::kLinear;
}

double Schedule::at(int64_t step) const {
  if (step <= warmup_steps) {
    return peak * static_cast<double>(step) / static_cast<double>(warmup_steps + 1);
  }
  const int64_t n_decaying = std::max<int64_t>(1, total_steps - warmup_steps);
  const double done =
      std::min(1.0, static_cast<double>(step - warmup_steps - 1) / static_cast<double>(n_decaying));
  switch (decay) {
    case Decay::kConstant:
      return peak;
    case Decay::kLinear:
      return peak * (1.0 - (1.0 - min_ratio) * done);
    case Decay::kCosine:
      return peak *
             (min_ratio + (1.0 - min_ratio) * 0.5 * (1.0 + std::cos(std::numbers::pi * done)));
  }
  return peak;
}

}  // namespace ssa
