// What a CUDA device does at best, which the log tells the share of.
#pragma once

#include <string>
#include <string_view>

namespace ssa {

/// Dense bf16 operations a second, sums in float32, that the maker states for a device of this name
/// ("NVIDIA H100 80GB HBM3"); 0: not known, as of slices of a device (MIG).
double peak_flops_of(std::string_view device_name);

/// As the driver calls it; "" if there is no driver or no such device.
std::string cuda_device_name(int index);

}  // namespace ssa
