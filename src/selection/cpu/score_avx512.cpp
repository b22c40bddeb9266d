#include "selection/cpu/score_blocks.h"
#include "selection/cpu/score_tables.h"
#include "selection/cpu/score_vectors.h"
#include "selection/cpu/tile_math_avx512.h"

namespace ssa::cpu {

const ScoreKernels kAvx512ScoreKernels = {
    score_tiles<Avx512F32, Avx512BF16, Avx512Int8>,
    score_vectors<Avx512F32>,
};

}  // namespace ssa::cpu
