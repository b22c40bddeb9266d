#include "evaluation/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "data/row_random.h"

namespace ssa {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

double ratio_of(double above, double below) {
  return below == 0 ? kNone : above / below;
}

/// The value below which so many of the sorted values lie, between neighbours by proportion.
double quantile(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto left = static_cast<size_t>(place);
  const size_t right = std::min(left + 1, sorted.size() - 1);
  return sorted[left] + (place - static_cast<double>(left)) * (sorted[right] - sorted[left]);
}

/// statistic(sums) of the items themselves and of resamples.
Interval resample(const std::vector<const ItemRatios*>& series, const BootstrapOptions& options) {
  const size_t n = series.front()->above.size();
  const auto statistic = [](const std::vector<double>& sums) {
    const double first = ratio_of(sums[0], sums[1]);
    return sums.size() == 2 ? first : first - ratio_of(sums[2], sums[3]);
  };
  const auto add = [&](std::vector<double>& sums, size_t item) {
    for (size_t i = 0; i < series.size(); ++i) {
      sums[2 * i] += series[i]->above[item];
      sums[2 * i + 1] += series[i]->below[item];
    }
  };
  std::vector<double> own(2 * series.size());
  for (size_t item = 0; item < n; ++item) {
    add(own, item);
  }
  RowRandom random(options.seed);
  std::vector<double> values;
  for (int64_t round = 0; round < options.rounds && n > 0; ++round) {
    std::vector<double> sums(2 * series.size());
    for (size_t i = 0; i < n; ++i) {
      add(sums, random.below(n));
    }
    if (const double value = statistic(sums); !std::isnan(value)) {
      values.push_back(value);
    }
  }
  if (values.empty()) {
    return {n == 0 ? kNone : statistic(own), kNone, kNone};
  }
  std::sort(values.begin(), values.end());
  return {statistic(own), quantile(values, 0.025), quantile(values, 0.975)};
}

}  // namespace

void ItemRatios::add(double numerator, double denominator) {
  above.push_back(numerator);
  below.push_back(denominator);
}

double ItemRatios::value() const {
  return ratio_of(std::accumulate(above.begin(), above.end(), 0.0),
                  std::accumulate(below.begin(), below.end(), 0.0));
}

Interval bootstrap_interval(const ItemRatios& items, const BootstrapOptions& options) {
  return resample({&items}, options);
}

Interval bootstrap_difference(const ItemRatios& a,
                              const ItemRatios& b,
                              const BootstrapOptions& options) {
  check(a.above.size() == b.above.size(),
        "paired bootstrap of ",
        a.above.size(),
        " items against ",
        b.above.size());
  return resample({&a, &b}, options);
}

}  // namespace ssa
