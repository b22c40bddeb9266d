#include "base/log.h"

#include <atomic>
#include <cstdio>

namespace ssa {
namespace {
std::atomic<LogLevel> current_level = LogLevel::kInfo;
}  // namespace

void set_log_level(LogLevel level) {
  current_level = level;
}
LogLevel log_level() {
  return current_level;
}

void log_line(LogLevel level, const std::string& text) {
  if (level < current_level) {
    return;
  }
  const std::string line = (level == LogLevel::kWarning ? "warning: " : "") + text + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);  // one call: lines of two threads do not mix
}

}  // namespace ssa
