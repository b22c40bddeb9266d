// Sums of a few numbers over processes.
#pragma once

#include <vector>

#include "distributed/process_group.h"

namespace ssa {

/// Every process calls it with equally many numbers, and gets the sums. Waits for the device.
std::vector<double> sum_numbers(ProcessGroup& group, const std::vector<double>& numbers);

}  // namespace ssa
