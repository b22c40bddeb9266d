#include "selection/cpu/block_share_loops.h"

namespace ssa::cpu {

const ShareKernels kPortableShareKernels = {largest, weigh, add_rows};

}  // namespace ssa::cpu
