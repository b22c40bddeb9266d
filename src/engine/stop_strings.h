// Ending an answer at a string that may arrive in pieces.
#pragma once

#include <string>
#include <vector>

namespace ssa {

/// Passes text on, holding back what could be the start of a stop string. Not thread-safe.
class StopStrings {
 public:
  /// Empty strings are an Error.
  explicit StopStrings(std::vector<std::string> stops);

  /// Text that is safe to show now. After a stop string has come, stopped() is true, what stood
  /// before it has been returned, and the rest is dropped.
  std::string push(const std::string& text);
  /// What was held back, at the end of an answer that did not stop.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace ssa
