#include "nn/cpu/row_kernels.h"

#include "base/error.h"

namespace ssa::cpu {

template <class T>
const RowKernels<T>& row_kernels(InstructionSet set) {
  switch (set) {
    case InstructionSet::kPortable:
      return row_kernels_portable<T>();
    case InstructionSet::kAvx2:
      return row_kernels_avx2<T>();
    case InstructionSet::kAvx512:
      return row_kernels_avx512<T>();
  }
  fail("row kernels: there is no instruction set ", static_cast<int>(set));
}

template const RowKernels<float>& row_kernels(InstructionSet);
template const RowKernels<BF16>& row_kernels(InstructionSet);

}  // namespace ssa::cpu
