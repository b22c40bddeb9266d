// Scores of gists, q . k unscaled, in float32: the scan.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu_features.h"
#include "kv/kv_format.h"

namespace ssa::cpu {

struct ScoreKernels {
  /// scores[r * stride + i] = q_r . key_i for keys [0, n_keys) of the tiles. q: [n_rows, head_dim]
  /// f32, n_rows at most 64; where keys are bf16 or int8, q may be rounded to bf16. A score depends
  /// on nothing but its q and key: not on n_rows, nor on where the key lies. Writes up to the end
  /// of the last tile: stride >= n_keys rounded up to 16.
  void (*score_tiles)(KvType type,
                      int64_t head_dim,
                      const float* q,
                      int64_t n_rows,
                      const std::byte* tiles,
                      int64_t n_keys,
                      float* scores,
                      int64_t stride);
  /// The same for keys stored as vectors, `key_stride` bytes apart: scores[r * stride + i], i in
  /// [0, n_keys).
  void (*score_vectors)(KvType type,
                        int64_t head_dim,
                        const float* q,
                        int64_t n_rows,
                        const std::byte* keys,
                        int64_t key_stride,
                        int64_t n_keys,
                        float* scores,
                        int64_t stride);
};

const ScoreKernels& score_kernels(InstructionSet set);

}  // namespace ssa::cpu
