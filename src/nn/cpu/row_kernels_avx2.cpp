#include "nn/cpu/row_loops.h"

namespace ssa::cpu {

template <class T>
const RowKernels<T>& row_kernels_avx2() {
  return kRowKernels<T>;
}

template const RowKernels<float>& row_kernels_avx2();
template const RowKernels<BF16>& row_kernels_avx2();

}  // namespace ssa::cpu
