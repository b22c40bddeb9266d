// Which source each row comes from.
#pragma once

#include <cstdint>
#include <vector>

namespace ssa {

/// Sources take turns in rounds of kRowsPerRound rows, in which each has its share; where its turns
/// lie is drawn once, and the same in every round. So the number of rows that a source gave before
/// row i is known without looking at them. Const methods are safe from many threads.
class SourceSchedule {
 public:
  static constexpr uint64_t kRowsPerRound = 1024;

  /// Weights are positive and at most kRowsPerRound many. A source has at least one turn a round.
  SourceSchedule(const std::vector<double>& weights, uint64_t seed);

  struct Turn {
    uint64_t source;
    uint64_t draw;  // how many rows the source gave before
  };
  Turn turn(uint64_t row) const;
  /// Rows that `source` gives among the first n_rows.
  uint64_t n_draws(uint64_t source, uint64_t n_rows) const;
  /// Its share of all rows.
  double share(uint64_t source) const;

 private:
  std::vector<Turn> round_;       // [kRowsPerRound]: draws count from the round's start
  std::vector<uint64_t> counts_;  // [n_sources]: turns in a round
};

}  // namespace ssa
