#include "nn/cpu/low_rank_loops.h"

namespace ssa::cpu {

template <class T>
const LowRankKernels<T>& low_rank_kernels_portable() {
  return kLowRankKernels<T>;
}

template const LowRankKernels<float>& low_rank_kernels_portable();
template const LowRankKernels<BF16>& low_rank_kernels_portable();

}  // namespace ssa::cpu
