// The scan, for the Math types of any instruction set.
//
// q is packed once: blocks of rows, within a block [step][row], so that a step's numbers lie side
// by side. Then four tiles at a time (16 KB of bf16 at 128 dimensions: half of a first-level cache)
// meet every block of rows: each tile is read from memory once. A step of seven bf16 rows costs
// seven dot products a cache line, 1.9 ns on a Zen 4 core, while its share of memory takes 2.8 ns
// to bring that line. Tiles are read one behind the other: two or four at once would hide the
// latency of a few rows' sums, but memory then brings less than half as much.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "selection/cpu/score.h"
#include "selection/cpu/tile_dot.h"

namespace ssa::cpu {
namespace {

inline constexpr int64_t kMaxScoreRows = 64, kMaxHeadDim = 512;

struct ScanTarget {
  const std::byte* tiles;
  int64_t head_dim;
  int64_t tile_bytes;
  float* scores;
  int64_t stride;
};

/// A block of rows, packed.
struct RowBlock {
  const uint32_t* words;
  const float* factors;
  int64_t first;
};

template <class Math, int kRows>
void score_tile(const ScanTarget& target, const RowBlock& block, int64_t tile) {
  constexpr int kAhead = 4096;
  typename Math::Sum sums[kRows][1] = {};
  const std::byte* at = target.tiles + tile * target.tile_bytes;
  add_products<Math, kRows, 1, Math::kRowWords, kRows * Math::kRowWords, kAhead>(
      block.words, at, {kLaneBytes, 0}, target.head_dim / Math::kDims, sums);
  const std::byte* scales = at + target.head_dim / Math::kDims * kLaneBytes;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    float* out = target.scores + (block.first + r) * target.stride + tile * kTileKeys;
    Math::finish(sums[r][0], scales, block.factors[r], out);
  }
}

/// Tiles [first, last) with a block of n_rows, at most kRows.
template <class Math, int kRows = Math::kMaxRows>
void score_block(
    int64_t n_rows, const ScanTarget& target, const RowBlock& block, int64_t first, int64_t last) {
  if constexpr (kRows > 1) {
    if (n_rows < kRows) {
      return score_block<Math, kRows - 1>(n_rows, target, block, first, last);
    }
  }
  for (int64_t tile = first; tile < last; ++tile) {
    score_tile<Math, kRows>(target, block, tile);
  }
}

/// q as blocks of about equal numbers of rows.
template <class Math>
class PackedRows {
 public:
  PackedRows(const float* q, int64_t n_rows, int64_t head_dim)
      : n_rows_(n_rows),
        n_blocks_((n_rows + Math::kMaxRows - 1) / Math::kMaxRows),
        row_words_(head_dim / Math::kDims * Math::kRowWords) {
    for (int64_t i = 0; i < n_blocks_; ++i) {
      const int64_t begin = first(i), n = size(i);
      for (int64_t row = begin; row < begin + n; ++row) {
        uint32_t* to = words_ + begin * row_words_ + (row - begin) * Math::kRowWords;
        factors_[row] = pack_row(q + row * head_dim, head_dim, n * Math::kRowWords, to);
      }
    }
  }

  int64_t n_blocks() const { return n_blocks_; }
  int64_t size(int64_t i) const { return first(i + 1) - first(i); }
  RowBlock block(int64_t i) const {
    return {words_ + first(i) * row_words_, factors_ + first(i), first(i)};
  }

 private:
  int64_t first(int64_t i) const { return i * n_rows_ / n_blocks_; }

  /// Steps `stride` words apart; returns the row's factor.
  float pack_row(const float* q, int64_t head_dim, int64_t stride, uint32_t* to) const {
    uint32_t words[kMaxHeadDim];
    const float factor = Math::pack(q, head_dim, words);
    for (int64_t w = 0; w < row_words_; w += Math::kRowWords, to += stride) {
      std::memcpy(to, words + w, Math::kRowWords * sizeof(uint32_t));
    }
    return factor;
  }

  int64_t n_rows_, n_blocks_, row_words_;
  float factors_[kMaxScoreRows];
  alignas(64) uint32_t words_[kMaxScoreRows * kMaxHeadDim];
};

template <class Math>
void score_tiles_as(const ScanTarget& target, const float* q, int64_t n_rows, int64_t n_keys) {
  constexpr int64_t kTilesTogether = 4;
  const int64_t n_tiles = (n_keys + kTileKeys - 1) / kTileKeys;
  const PackedRows<Math> rows(q, n_rows, target.head_dim);
  for (int64_t first = 0; first < n_tiles; first += kTilesTogether) {
    const int64_t last = first + kTilesTogether < n_tiles ? first + kTilesTogether : n_tiles;
    for (int64_t i = 0; i < rows.n_blocks(); ++i) {
      score_block<Math>(rows.size(i), target, rows.block(i), first, last);
    }
  }
}

/// ScoreKernels::score_tiles.
template <class F32, class BF16, class Int8>
void score_tiles(KvType type,
                 int64_t head_dim,
                 const float* q,
                 int64_t n_rows,
                 const std::byte* tiles,
                 int64_t n_keys,
                 float* scores,
                 int64_t stride) {
  const ScanTarget target = {tiles, head_dim, tile_bytes(type, head_dim), scores, stride};
  switch (type) {
    case KvType::kF32:
      return score_tiles_as<F32>(target, q, n_rows, n_keys);
    case KvType::kBF16:
      return score_tiles_as<BF16>(target, q, n_rows, n_keys);
    case KvType::kInt8:
      return score_tiles_as<Int8>(target, q, n_rows, n_keys);
  }
}

}  // namespace
}  // namespace ssa::cpu
