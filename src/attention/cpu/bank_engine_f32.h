// An Engine (bank_attend_rows.h) that computes in float32, from the three Math types of an
// instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "attention/cpu/bank_attend_rows.h"
#include "selection/cpu/widen.h"

namespace ssa::cpu {
namespace {

/// kDimsPerStep dimensions of 16 keys, [16][kDimsPerStep] in memory, become floats
/// [kDimsPerStep][16].
template <class Element, int kDimsPerStep>
void widen_steps(const std::byte* tile, int64_t head_dim, float* out) {
  for (int64_t i = 0; i < head_dim; i += kDimsPerStep) {
    uint32_t words[kTileKeys];
    std::memcpy(words, tile + i / kDimsPerStep * kLaneBytes, sizeof words);
    for (int dim = 0; dim < kDimsPerStep; ++dim) {
      for (int64_t key = 0; key < kTileKeys; ++key) {
        out[(i + dim) * kTileKeys + key] = Element::from_word(words[key], dim);
      }
    }
  }
}

struct BF16Element {
  static float from_word(uint32_t word, int dim) {
    return __builtin_bit_cast(float, dim == 0 ? word << 16 : word & 0xFFFF0000U);
  }
};

struct Int8Element {
  static float from_word(uint32_t word, int dim) {
    return static_cast<float>(static_cast<int32_t>(word << (24 - 8 * dim)) >> 24);
  }
};

/// A block's scores are multiplied by its int8 keys' scales.
inline void apply_key_scales(const std::byte* tiles,
                             int64_t head_dim,
                             int64_t n_tiles,
                             float* scales) {
  const int64_t tile = tile_bytes(KvType::kInt8, head_dim);
  for (int64_t key = 0; key < n_tiles * kTileKeys; ++key) {
    const std::byte* of_tile = tiles + key / kTileKeys * tile + kTileKeys * head_dim;
    scales[key] *= bf16_at(of_tile + 2 * (key % kTileKeys));
  }
}

template <class MathF32, class Lane, int kStripRows, int kStripLanes>
struct EngineF32 {
  using Math = MathF32;
  using F32 = MathF32;
  static constexpr int kRows = kStripRows, kLanes = kStripLanes;

  static KeyTiles key_tiles(
      const HeadShape& shape, const std::byte* tiles, int64_t n_tiles, float* out, float* scales) {
    const int64_t dim = shape.head_dim, stored = tile_bytes(shape.type, dim);
    if (shape.type == KvType::kF32) {
      return {tiles, stored};
    }
    for (int64_t tile = 0; tile < n_tiles; ++tile) {
      float* to = out + tile * kTileKeys * dim;
      if (shape.type == KvType::kBF16) {
        widen_steps<BF16Element, 2>(tiles + tile * stored, dim, to);
      } else {
        widen_steps<Int8Element, 4>(tiles + tile * stored, dim, to);
      }
    }
    if (shape.type == KvType::kInt8) {
      apply_key_scales(tiles, dim, n_tiles, scales);
    }
    return {reinterpret_cast<const std::byte*>(out), tile_bytes(KvType::kF32, dim)};
  }

  static void store_values(const ValueBlock& block, int64_t padded_dim, float* out) {
    const int64_t bytes = vector_bytes(block.type, block.head_dim);
    const int64_t n_padded = round_up(block.n, kTileKeys);
    for (int64_t key = 0; key < n_padded; ++key) {
      float* to = out + key * padded_dim;
      const int64_t n_dims = key < block.n ? block.head_dim : 0;
      if (key < block.n) {
        const float scale = widen(block.type, block.vectors + key * bytes, block.head_dim, to);
        for (int64_t i = 0; scale != 1 && i < n_dims; ++i) {
          to[i] *= scale;
        }
      }
      std::memset(to + n_dims, 0, static_cast<size_t>(padded_dim - n_dims) * sizeof(float));
    }
  }

  static void weigh(float* scores, const float* scales, int64_t n_visible, RowSoftmax& row) {
    typename Lane::Register weights[kBlockLanes];
    weigh_block<Lane>(scores, scales, n_visible, row, weights);
#pragma GCC unroll 4
    for (int i = 0; i < kBlockLanes; ++i) {
      Lane::store(scores + i * kSumLanes, weights[i]);
    }
  }
};

}  // namespace
}  // namespace ssa::cpu
