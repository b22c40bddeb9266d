// Ends the job when one of its processes is dead or hangs, and says which.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "distributed/process_group.h"

namespace ssa {

struct WatchdogOptions {
  std::chrono::milliseconds interval{1000};     ///< between heartbeats
  std::chrono::milliseconds dead_after{20000};  ///< without a heartbeat
  std::chrono::milliseconds hang_after{40000};  ///< behind others that wait for it
  /// Called once, from another thread, with one line; then the process ends by _Exit(1).
  std::function<void(const std::string& message)> on_failure;
};

/// Every process tells the job's store, from a thread of its own, that it is alive, at which step
/// it is and how many operations of the group it has started; and watches the others:
///
///   dead     no heartbeat for `dead_after`: killed, or its machine is gone
///   hung     alive, but others have been ahead of it by an operation for `hang_after`, while it
///            neither started one nor finished a step, and nobody is in a long_task()
///   failed   it said so: report_failure(), or its Watchdog was destroyed by an exception
///
/// Then on_failure is told which rank, and the process ends. So a long checkpoint on rank 0 within
/// a long_task() ends nothing: its thread goes on beating. One process: does nothing.
///
/// Make it right after the group: until then a rank that ends leaves the others waiting. Its
/// destructor says goodbye and, on rank 0, which may host the store, waits until all have. Member
/// functions may be called from any thread.
class Watchdog {
 public:
  Watchdog(std::shared_ptr<ProcessGroup> group, WatchdogOptions options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// This process has finished step number `step`.
  void progress(int64_t step);

  /// While one lives on any rank, nobody counts as hung (but may be dead).
  class LongTask {
   public:
    ~LongTask();
    LongTask(const LongTask&) = delete;
    LongTask& operator=(const LongTask&) = delete;

   private:
    friend class Watchdog;
    explicit LongTask(Watchdog& watchdog);
    Watchdog& watchdog_;
  };
  /// For work of one rank that others wait for: writing a checkpoint.
  [[nodiscard]] LongTask long_task() { return LongTask(*this); }

  /// Tells the others that this process ends, and why; they end with "rank R failed: REASON". Does
  /// not end this process.
  void report_failure(const std::string& reason);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;  // empty for one process
};

}  // namespace ssa
