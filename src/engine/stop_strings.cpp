#include "engine/stop_strings.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace ssa {
namespace {

/// Length of the longest end of `text` that begins `stop`.
size_t overlap(const std::string& text, const std::string& stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n) {
    if (text.compare(text.size() - n, n, stop, 0, n) == 0) {
      return n;
    }
  }
  return 0;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) {
    check(!stop.empty(), "a stop string is empty");
  }
}

std::string StopStrings::push(const std::string& text) {
  if (stopped_) {
    return {};
  }
  held_ += text;
  size_t end = std::string::npos, hold = 0;
  for (const std::string& stop : stops_) {
    end = std::min(end, held_.find(stop));
    hold = std::max(hold, overlap(held_, stop));
  }
  stopped_ = end != std::string::npos;
  const size_t shown = stopped_ ? end : held_.size() - hold;
  std::string safe = held_.substr(0, shown);
  held_.erase(0, stopped_ ? held_.size() : shown);
  return safe;
}

std::string StopStrings::finish() {
  return std::exchange(held_, {});
}

}  // namespace ssa
