#include "selection/cpu/score_blocks.h"
#include "selection/cpu/score_tables.h"
#include "selection/cpu/score_vectors.h"
#include "selection/cpu/tile_math_portable.h"

namespace ssa::cpu {

const ScoreKernels kPortableScoreKernels = {
    score_tiles<PortableF32, PortableBF16, PortableInt8>,
    score_vectors<PortableF32>,
};

}  // namespace ssa::cpu
