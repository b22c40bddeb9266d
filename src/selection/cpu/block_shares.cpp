#include "selection/cpu/block_shares.h"

namespace ssa::cpu {

const ShareKernels& share_kernels(InstructionSet set) {
#if defined(__x86_64__)
  switch (set) {
    case InstructionSet::kAvx512:
      return kAvx512ShareKernels;
    case InstructionSet::kAvx2:
      return kAvx2ShareKernels;
    case InstructionSet::kPortable:
      break;
  }
#else
  static_cast<void>(set);
#endif
  return kPortableShareKernels;
}

}  // namespace ssa::cpu
