#include "selection/cpu/block_share_loops.h"

namespace ssa::cpu {

const ShareKernels kAvx512ShareKernels = {largest, weigh, add_rows};

}  // namespace ssa::cpu
