// Losses of a step, added up over micro-batches and processes.
#pragma once

#include <array>

#include "training/objective.h"
#include "training/run_report.h"

namespace ssa {

/// Sums stay on the device until they are asked for. Not thread-safe.
class StepLosses {
 public:
  explicit StepLosses(torch::Device device);

  void add(const Losses& losses);
  /// For the reduction over processes: [n] float64.
  Tensor& sums() { return sums_; }
  /// As kLossNames; 0 where not asked for. Waits for the device.
  std::array<double, kLossNames.size()> values() const;

 private:
  Tensor sums_;  // as kLossNames; behind them the shares of targets that each stream got
};

}  // namespace ssa
