#include "selection/cpu/score.h"

#include "selection/cpu/score_tables.h"

namespace ssa::cpu {

const ScoreKernels& score_kernels(InstructionSet set) {
#if defined(__x86_64__)
  switch (set) {
    case InstructionSet::kAvx512:
      return kAvx512ScoreKernels;
    case InstructionSet::kAvx2:
      return kAvx2ScoreKernels;
    case InstructionSet::kPortable:
      break;
  }
#else
  static_cast<void>(set);
#endif
  return kPortableScoreKernels;
}

}  // namespace ssa::cpu
