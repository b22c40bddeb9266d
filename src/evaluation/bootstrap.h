// Percentile bootstrap over items.
#pragma once

#include <cstdint>
#include <vector>

namespace ssa {

/// A statistic that is the sum of one number an item over the sum of another: a mean where the
/// latter are 1.
struct ItemRatios {
  std::vector<double> above, below;  // [n_items]

  void add(double numerator, double denominator = 1.0);
  /// NaN where the sum below is 0.
  double value() const;
};

/// 95% interval of resamples of the items.
struct Interval {
  double value = 0;  // of the items themselves
  double low = 0, high = 0;
};

struct BootstrapOptions {
  int64_t rounds = 10000;
  uint64_t seed = 1;
};

/// Both are functions of their arguments alone. Without items all three numbers are NaN.
Interval bootstrap_interval(const ItemRatios& items, const BootstrapOptions& options = {});
/// Of a - b, the same items drawn for both. As many items in a as in b.
Interval bootstrap_difference(const ItemRatios& a,
                              const ItemRatios& b,
                              const BootstrapOptions& options = {});

}  // namespace ssa
