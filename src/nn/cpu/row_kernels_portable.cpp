#include "nn/cpu/row_loops.h"

namespace ssa::cpu {

template <class T>
const RowKernels<T>& row_kernels_portable() {
  return kRowKernels<T>;
}

template const RowKernels<float>& row_kernels_portable();
template const RowKernels<BF16>& row_kernels_portable();

}  // namespace ssa::cpu
