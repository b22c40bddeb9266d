#include "data/source_schedule.h"

#include <algorithm>
#include <numeric>

#include "data/permutation.h"

namespace ssa {
namespace {

constexpr uint64_t kRound = SourceSchedule::kRowsPerRound;

/// Turns by weight, one at least, kRound in all: every further turn goes to the source that is
/// furthest behind its share.
std::vector<uint64_t> count_turns(const std::vector<double>& weights) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<uint64_t> counts(weights.size(), 1);
  for (uint64_t n = weights.size(); n < kRound; ++n) {
    size_t neediest = 0;
    double most = -1e300;
    for (size_t s = 0; s < weights.size(); ++s) {
      const double owed =
          weights[s] / total * static_cast<double>(kRound) - static_cast<double>(counts[s]);
      if (owed > most) {
        most = owed;
        neediest = s;
      }
    }
    ++counts[neediest];
  }
  return counts;
}

}  // namespace

SourceSchedule::SourceSchedule(const std::vector<double>& weights, uint64_t seed)
    : round_(kRound), counts_(count_turns(weights)) {
  const Permutation place(kRound, seed);
  uint64_t n_given = 0;
  for (uint64_t source = 0; source < counts_.size(); ++source) {
    for (uint64_t i = 0; i < counts_[source]; ++i) {
      round_[place(n_given++)].source = source;
    }
  }
  std::vector<uint64_t> n_draws(counts_.size());
  for (Turn& turn : round_) {
    turn.draw = n_draws[turn.source]++;
  }
}

SourceSchedule::Turn SourceSchedule::turn(uint64_t row) const {
  const Turn& turn = round_[row % kRound];
  return {turn.source, row / kRound * counts_[turn.source] + turn.draw};
}

uint64_t SourceSchedule::n_draws(uint64_t source, uint64_t n_rows) const {
  const auto of_source = [source](const Turn& turn) { return turn.source == source; };
  const auto end = round_.begin() + static_cast<std::ptrdiff_t>(n_rows % kRound);
  return n_rows / kRound * counts_[source] +
         static_cast<uint64_t>(std::count_if(round_.begin(), end, of_source));
}

double SourceSchedule::share(uint64_t source) const {
  return static_cast<double>(counts_[source]) / static_cast<double>(kRound);
}

}  // namespace ssa
