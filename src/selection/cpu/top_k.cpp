#include "selection/cpu/top_k.h"

#include "selection/cpu/top_k_tables.h"

namespace ssa::cpu {

const TopKKernels& top_k_kernels(InstructionSet set) {
#if defined(__x86_64__)
  switch (set) {
    case InstructionSet::kAvx512:
      return kAvx512TopKKernels;
    case InstructionSet::kAvx2:
      return kAvx2TopKKernels;
    case InstructionSet::kPortable:
      break;
  }
#else
  static_cast<void>(set);
#endif
  return kPortableTopKKernels;
}

}  // namespace ssa::cpu
