#include "selection/cpu/block_share_loops.h"

namespace ssa::cpu {

const ShareKernels kAvx2ShareKernels = {largest, weigh, add_rows};

}  // namespace ssa::cpu
