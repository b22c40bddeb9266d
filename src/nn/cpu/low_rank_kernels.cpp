#include "nn/cpu/low_rank_kernels.h"

#include "base/error.h"

namespace ssa::cpu {

template <class T>
const LowRankKernels<T>& low_rank_kernels(InstructionSet set) {
  switch (set) {
    case InstructionSet::kPortable:
      return low_rank_kernels_portable<T>();
    case InstructionSet::kAvx2:
      return low_rank_kernels_avx2<T>();
    case InstructionSet::kAvx512:
      return low_rank_kernels_avx512<T>();
  }
  fail("low-rank kernels: there is no instruction set ", static_cast<int>(set));
}

template const LowRankKernels<float>& low_rank_kernels(InstructionSet);
template const LowRankKernels<BF16>& low_rank_kernels(InstructionSet);

}  // namespace ssa::cpu
