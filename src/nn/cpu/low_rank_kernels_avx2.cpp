#include "nn/cpu/low_rank_loops.h"

namespace ssa::cpu {

template <class T>
const LowRankKernels<T>& low_rank_kernels_avx2() {
  return kLowRankKernels<T>;
}

template const LowRankKernels<float>& low_rank_kernels_avx2();
template const LowRankKernels<BF16>& low_rank_kernels_avx2();

}  // namespace ssa::cpu
