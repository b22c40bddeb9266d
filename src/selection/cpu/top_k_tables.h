// The tables behind top_k_kernels(), one a file.
#pragma once

#include "selection/cpu/top_k.h"

namespace ssa::cpu {

extern const TopKKernels kPortableTopKKernels;
extern const TopKKernels kAvx2TopKKernels;
extern const TopKKernels kAvx512TopKKernels;

}  // namespace ssa::cpu
