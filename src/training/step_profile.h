// What the CPU and the device did during one step, as a file for Perfetto or chrome://tracing.
#pragma once

#include <torch/types.h>

#include <filesystem>

namespace ssa {

/// Records from construction until save(), or for nothing. One at a time in a process.
class StepProfile {
 public:
  explicit StepProfile(torch::Device device);
  ~StepProfile();
  StepProfile(const StepProfile&) = delete;
  StepProfile& operator=(const StepProfile&) = delete;

  /// Waits for the device, ends the recording and writes it as JSON.
  void save(const std::filesystem::path& path);

 private:
  bool is_open_ = true;
};

}  // namespace ssa
