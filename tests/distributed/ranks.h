// Tests that run in several processes: the test program starts itself, once a rank.
#pragma once

#include <gtest/gtest.h>
#include <torch/cuda.h>
#include <torch/types.h>

#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <vector>

#include "base/remove_folder.h"
#include "distributed/launcher.h"

namespace ssa {

/// The running test, as a command.
inline std::vector<std::string> this_test() {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  return {"/proc/self/exe",
          std::string("--gtest_filter=") + info->test_suite_name() + "." + info->name(),
          "--gtest_brief=1"};
}

inline bool is_rank() {
  return std::getenv("WORLD_SIZE") != nullptr;
}

/// Where ranks compute: the CPU, unless SSA_TEST_DEVICE says cuda.
inline torch::Device test_device() {
  const char* device = std::getenv("SSA_TEST_DEVICE");
  return torch::Device(device == nullptr ? "cpu" : device);
}

/// In a rank: true, and the test's body is to run. Otherwise runs the same test in as many
/// processes as each of `sizes` says, if there are as many GPUs, expects all to pass, and returns
/// false.
inline bool runs_as_rank(std::initializer_list<int> sizes) {
  if (is_rank()) {
    return true;
  }
  for (const int size : sizes) {
    if (test_device().is_cuda() && size > static_cast<int>(torch::cuda::device_count())) {
      continue;
    }
    std::string reports;
    LaunchOptions options;
    options.processes = size;
    options.command = this_test();
    options.report = [&](const std::string& line) { reports += line + "\n"; };
    EXPECT_EQ(launch_processes(options), 0) << size << " processes: " << reports;
  }
  return false;
}

}  // namespace ssa
