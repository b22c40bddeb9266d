#include "selection/cpu/score_blocks.h"
#include "selection/cpu/score_tables.h"
#include "selection/cpu/score_vectors.h"
#include "selection/cpu/tile_math_avx2.h"

namespace ssa::cpu {

const ScoreKernels kAvx2ScoreKernels = {
    score_tiles<Avx2F32, Avx2BF16, Avx2Int8>,
    score_vectors<Avx2F32>,
};

}  // namespace ssa::cpu
