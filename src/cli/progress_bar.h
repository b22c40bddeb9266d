// How far a long step is, on standard error: a bar on a terminal, a line now and then elsewhere.
#pragma once

#include <chrono>
#include <string>

#include "base/progress.h"

namespace ssa {

/// Draws nothing for steps that end within half a second. Not thread-safe.
class ProgressBar {
 public:
  /// `unit`: what update() counts, so that its rate is shown ("items"); empty: no rate.
  explicit ProgressBar(std::string label, std::string unit = {});
  /// Wipes the bar.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(int64_t done, int64_t total);
  /// update() as a callback; valid as long as the bar.
  ProgressFn callback();

 private:
  void draw(double share, const std::string& rate);
  std::string rate_of(int64_t done) const;

  std::string label_, unit_;
  bool terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point begin_, last_;
};

}  // namespace ssa
