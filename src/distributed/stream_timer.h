// Time that a device's current stream spends between two points of the program.
#pragma once

#include <torch/types.h>

#include <chrono>
#include <memory>

namespace c10 {
struct Event;
}

namespace ssa {

/// On the CPU wall time; elsewhere time of the device, measured without waiting for it. One use.
class StreamTimer {
 public:
  /// Starts.
  explicit StreamTimer(torch::Device device);
  ~StreamTimer();
  StreamTimer(StreamTimer&&) noexcept;
  StreamTimer& operator=(StreamTimer&&) noexcept;

  void stop();
  /// True if seconds() need not wait.
  bool is_done() const;
  /// Between start and stop(); waits for the device.
  double seconds() const;

 private:
  using Clock = std::chrono::steady_clock;
  torch::Device device_;
  Clock::time_point start_, end_;
  std::unique_ptr<c10::Event> start_event_, end_event_;  // empty on the CPU
};

}  // namespace ssa
