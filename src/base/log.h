// Messages to the user's terminal (standard error), one line each. No formatting library: torch
// ships fmt headers that clash with the system's.
#pragma once

#include <string>

#include "base/error.h"

namespace ssa {

enum class LogLevel { kDebug, kInfo, kWarning };

/// Lines below this level are dropped. Default kInfo. Thread-safe.
void set_log_level(LogLevel level);
LogLevel log_level();

/// Writes one line, "warning: " before a warning. Thread-safe.
void log_line(LogLevel level, const std::string& text);

template <class... Parts>
void log_debug(const Parts&... parts) {
  if (log_level() <= LogLevel::kDebug) {
    log_line(LogLevel::kDebug, concat(parts...));
  }
}
template <class... Parts>
void log_info(const Parts&... parts) {
  if (log_level() <= LogLevel::kInfo) {
    log_line(LogLevel::kInfo, concat(parts...));
  }
}
template <class... Parts>
void log_warning(const Parts&... parts) {
  log_line(LogLevel::kWarning, concat(parts...));
}

}  // namespace ssa
