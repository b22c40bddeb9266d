// How long work tells the caller how far it is; the program draws the bar.
#pragma once

#include <cstdint>
#include <functional>

namespace ssa {

/// Called now and then with the work done and the whole, in the same unit; may be empty.
using ProgressFn = std::function<void(int64_t done, int64_t total)>;

}  // namespace ssa
