// The tables behind score_kernels(), one a file.
#pragma once

#include "selection/cpu/score.h"

namespace ssa::cpu {

extern const ScoreKernels kPortableScoreKernels;
extern const ScoreKernels kAvx2ScoreKernels;
extern const ScoreKernels kAvx512ScoreKernels;

}  // namespace ssa::cpu
