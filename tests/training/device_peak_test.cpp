#include "training/device_peak.h"

#include <gtest/gtest.h>

namespace ssa {
namespace {

TEST(DevicePeak, GoesByTheNameOfTheDriver) {
  const std::pair<const char*, double> cases[] = {
      {"NVIDIA H100 80GB HBM3", 989},
      {"NVIDIA H100 PCIe", 756},
      {"NVIDIA H100 NVL", 835},
      {"NVIDIA H200", 989},
      {"NVIDIA A100-SXM4-80GB", 312},
      {"NVIDIA A100 80GB PCIe", 312},
      {"NVIDIA L40S", 362},
      {"NVIDIA GeForce RTX 4090", 165},
      // Not known: another model, and less than the name says.
      {"NVIDIA L40", 0},
      {"NVIDIA A10G", 0},
      {"NVIDIA GeForce RTX 4090 D", 0},
      {"NVIDIA GeForce RTX 4090 Laptop GPU", 0},
      {"NVIDIA H100 80GB HBM3 MIG 1g.10gb", 0},
      {"", 0},
  };
  for (const auto& [name, tflops] : cases) {
    EXPECT_EQ(peak_flops_of(name), tflops * 1e12) << name;
  }
}

TEST(DevicePeak, NoDeviceHasNoName) {
  EXPECT_EQ(cuda_device_name(1000), "");
}

}  // namespace
}  // namespace ssa
