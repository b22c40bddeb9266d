// Memory for what every decode step reads from end to end.
#pragma once

#include <torch/types.h>

namespace ssa {

/// n bytes of memory, in pages of 2 MiB where the system has them: two cores of an EPYC read them
/// at 46 GB/s, and 35 in pages of 4 KiB. Not initialised, on the CPU, uint8. Throws Error if there
/// is not so much.
torch::Tensor empty_in_huge_pages(int64_t n_bytes);

}  // namespace ssa
