// Prefill over a bank, for any instruction set: two matrix products with a softmax between, a block
// at a time.
//
//   S [rows, keys] = Q K^T,   P = 2^(S * scale * log2(e) - largest),   out += P V
//
// 192 rows at a time (a group) meet 64 keys at a time (a block). A block's keys and values are
// brought into the form that is computed in, values filled up with zeros to lanes of 16 dimensions:
// 1% of the work. Then one pass goes over the group by strips of kRows rows for scores and weights,
// and one for values, so that what all strips share stays in the first-level cache: 16 KB of bf16
// keys, then 16 KB of values, at 128 dimensions. Scores and sums of a group (48 KB and 96 KB) live
// in the second level. 4 * rows * keys * head_dim FLOPs; on Zen 4, bf16, 2,048 keys: 72% of the
// peak of vdpbf16ps (236 GFLOP/s a core) at 64 dimensions, 76% at 128.
//
// The passes are functions of their own: inlined into one another, g++ 12 spills sums to the stack
// (52% of the peak).
//
// An Engine is the arithmetic:
//   Math, F32            tile_dot.h: of the products, and of floats
//   kRows, kLanes        a strip's rows, and lanes at a time
//   key_tiles(...)       a block's keys as Math's tiles, in place or in `out`, and their scales
//   store_values(...)    a block's values as steps of Math, [step][lane]
//   weigh(...)           weigh_block (bank_softmax.h), weights stored as rows of Math
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "attention/cpu/bank_attend_tables.h"
#include "attention/cpu/bank_softmax.h"
#include "kv/kv_format.h"
#include "selection/cpu/tile_dot.h"

namespace ssa::cpu {
namespace {

inline constexpr int64_t kGroupRows = 192;  // a multiple of every kRows
inline constexpr int64_t kLaneDims = 16;

inline int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
inline int64_t smaller_of(int64_t a, int64_t b) {
  return a < b ? a : b;
}
inline int64_t larger_of(int64_t a, int64_t b) {
  return a > b ? a : b;
}

/// Tiles of keys as a Math takes them.
struct KeyTiles {
  const std::byte* tiles;
  int64_t tile_bytes;
};

/// A block's values as stored.
struct ValueBlock {
  KvType type;
  int64_t head_dim;
  const std::byte* vectors;
  int64_t n;
};

/// Where a group's numbers lie in the thread's scratch.
struct GroupScratch {
  explicit GroupScratch(int64_t head_dim) : padded_dim(round_up(head_dim, kLaneDims)) {
    const int64_t n_rows = kGroupRows * (head_dim + padded_dim + kBlockKeys);
    float* next = bank_attend_scratch(n_rows + kBlockKeys * 2 * padded_dim);
    const auto take = [&](int64_t n) {
      float* taken = next;
      next += n;
      return taken;
    };
    sums = take(kGroupRows * padded_dim);
    scores = take(kGroupRows * kBlockKeys);
    keys = take(kBlockKeys * padded_dim);
    values = take(kBlockKeys * padded_dim);
    q = reinterpret_cast<uint32_t*>(take(kGroupRows * head_dim));
  }

  int64_t padded_dim;
  float* sums;    // [kGroupRows, padded_dim]
  float* scores;  // [kGroupRows, kBlockKeys], and weights in their place
  float* keys;    // a block's, where the bank's are not as they are computed with
  float* values;  // a block's
  uint32_t* q;    // [strip][step][row of the strip]
};

template <class Engine>
class RowGroup {
 public:
  /// Rows [0, n_rows) of q, visible and state; n_rows at most kGroupRows.
  RowGroup(const HeadShape& shape, const BankView& bank, float scale, const GroupScratch& scratch)
      : shape_(shape),
        bank_(bank),
        scale_(scale * kLog2E),
        scratch_(scratch),
        n_steps_(shape.head_dim / Math::kDims) {}

  void attend(const float* q, int64_t n_rows, const int64_t* visible, const SoftmaxState& state) {
    load(q, n_rows, visible, state);
    int64_t end = 0;
    for (int64_t strip = 0; strip < n_strips_; ++strip) {
      end = larger_of(end, strip_end_[strip]);
    }
    for (int64_t first = 0; first < end; first += kBlockKeys) {
      attend_block(first, smaller_of(end - first, kBlockKeys));
    }
    store(n_rows, state);
  }

 private:
  using Math = typename Engine::Math;
  using F32 = typename Engine::F32;
  static constexpr int kRows = Engine::kRows;
  static constexpr int64_t kMaxStrips = kGroupRows / kRows;
  static constexpr float kLog2E = 1.44269504F;

  void load(const float* q, int64_t n_rows, const int64_t* visible, const SoftmaxState& state) {
    const int64_t dim = shape_.head_dim, padded = scratch_.padded_dim;
    n_strips_ = (n_rows + kRows - 1) / kRows;
    for (int64_t row = 0; row < n_strips_ * kRows; ++row) {
      const bool there = row < n_rows;
      float* sums = scratch_.sums + row * padded;
      std::memset(sums, 0, static_cast<size_t>(padded) * sizeof(float));
      visible_[row] = there ? visible[row] : 0;
      softmax_[row] = {};
      if (there) {
        std::memcpy(sums, state.out + row * dim, static_cast<size_t>(dim) * sizeof(float));
        softmax_[row].largest = state.largest[row];
        softmax_[row].sums[0] = state.sum[row];
      }
      strip_end_[row / kRows] =
          larger_of(row % kRows == 0 ? 0 : strip_end_[row / kRows], visible_[row]);
      pack(there ? q + row * dim : nullptr, row);
    }
  }

  /// A row of q, zeros where it is null, into its strip.
  void pack(const float* q, int64_t row) {
    constexpr int64_t kMaxHeadDim = 512;
    uint32_t words[kMaxHeadDim] = {};
    if (q != nullptr) {
      Math::pack(q, shape_.head_dim, words);
    }
    uint32_t* out = scratch_.q + row / kRows * kRows * n_steps_ + row % kRows;
    for (int64_t step = 0; step < n_steps_; ++step) {
      out[step * kRows] = words[step];
    }
  }

  void store(int64_t n_rows, const SoftmaxState& state) const {
    const int64_t dim = shape_.head_dim;
    for (int64_t row = 0; row < n_rows; ++row) {
      std::memcpy(state.out + row * dim,
                  scratch_.sums + row * scratch_.padded_dim,
                  static_cast<size_t>(dim) * sizeof(float));
      state.largest[row] = softmax_[row].largest;
      float sum = 0;
      for (const float lane : softmax_[row].sums) {
        sum += lane;
      }
      state.sum[row] = sum;
    }
  }

  void attend_block(int64_t first, int64_t n_keys) {
    const int64_t vector = vector_bytes(shape_.type, shape_.head_dim);
    const int64_t tile = tile_bytes(shape_.type, shape_.head_dim);
    const int64_t n_tiles = (n_keys + kTileKeys - 1) / kTileKeys;
    alignas(64) float scales[kBlockKeys];
    for (float& scale : scales) {
      scale = scale_;
    }
    const KeyTiles keys = Engine::key_tiles(
        shape_, bank_.key_tiles + first / kTileKeys * tile, n_tiles, scratch_.keys, scales);
    Engine::store_values({shape_.type, shape_.head_dim, bank_.values + first * vector, n_keys},
                         scratch_.padded_dim,
                         scratch_.values);
    for (int64_t strip = 0; strip < n_strips_; ++strip) {
      score_strip(strip, keys, tiles_seen(strip, first, n_tiles));
      weigh_strip(strip, first, scales);
    }
    for (int64_t strip = 0; strip < n_strips_; ++strip) {
      add_values(strip, tiles_seen(strip, first, n_tiles) * kTileKeys);
    }
  }

  /// Tiles of the block of which a row of the strip sees some.
  int64_t tiles_seen(int64_t strip, int64_t first, int64_t n_tiles) const {
    const int64_t n_seen = larger_of(strip_end_[strip] - first, 0);
    return smaller_of((n_seen + kTileKeys - 1) / kTileKeys, n_tiles);
  }

  [[gnu::noinline]] void score_strip(int64_t strip, const KeyTiles& keys, int64_t n_tiles) {
    const uint32_t* q = scratch_.q + strip * kRows * n_steps_;
    float* scores = scratch_.scores + strip * kRows * kBlockKeys;
    for_lanes(n_tiles, [&](int64_t tile, auto lanes) {
      constexpr int kLanes = decltype(lanes)::kCount;
      typename Math::Sum sums[kRows][kLanes] = {};
      add_products<Math, kRows, kLanes, 1, kRows>(
          q, keys.tiles + tile * keys.tile_bytes, {kLaneBytes, keys.tile_bytes}, n_steps_, sums);
      store_sums(sums, scores + tile * kTileKeys, kBlockKeys);
    });
  }

  [[gnu::noinline]] void weigh_strip(int64_t strip, int64_t first, const float* scales) {
    if (strip_end_[strip] <= first) {
      return;
    }
    for (int64_t row = strip * kRows; row < (strip + 1) * kRows; ++row) {
      Engine::weigh(
          scratch_.scores + row * kBlockKeys, scales, visible_[row] - first, softmax_[row]);
    }
  }

  /// n_keys: whole tiles. Weights behind what a row sees are 0.
  [[gnu::noinline]] void add_values(int64_t strip, int64_t n_keys) {
    if (n_keys == 0) {
      return;
    }
    const auto* weights =
        reinterpret_cast<const uint32_t*>(scratch_.scores + strip * kRows * kBlockKeys);
    const auto* values = reinterpret_cast<const std::byte*>(scratch_.values);
    const int64_t padded = scratch_.padded_dim;
    float* out = scratch_.sums + strip * kRows * padded;
    for_lanes(padded / kLaneDims, [&](int64_t lane, auto lanes) {
      constexpr int kLanes = decltype(lanes)::kCount;
      typename F32::Sum sums[kRows][kLanes];
      load_sums(strip, out + lane * kLaneDims, sums);
      add_products<Math, kRows, kLanes, kBlockKeys, 1>(
          weights,
          values + lane * kLaneBytes,
          {padded * int64_t{sizeof(float)}, kLaneBytes},
          n_keys / Math::kDims,
          sums);
      store_sums(sums, out + lane * kLaneDims, padded);
    });
  }

  /// A strip's sums of values, on the scale of its new largest scores.
  template <int kLanes>
  void load_sums(int64_t strip, const float* from, typename F32::Sum (&sums)[kRows][kLanes]) const {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      uint32_t factor;
      std::memcpy(&factor, &softmax_[strip * kRows + r].factor, sizeof factor);
#pragma GCC unroll 8
      for (int t = 0; t < kLanes; ++t) {
        const float* at = from + r * scratch_.padded_dim + t * kLaneDims;
        sums[r][t] = F32::add_product(
            {}, F32::load(reinterpret_cast<const std::byte*>(at)), F32::broadcast(&factor));
      }
    }
  }

  template <int kLanes>
  static void store_sums(const typename F32::Sum (&sums)[kRows][kLanes],
                         float* to,
                         int64_t stride) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int t = 0; t < kLanes; ++t) {
        F32::finish(sums[r][t], nullptr, 1, to + r * stride + t * kLaneDims);
      }
    }
  }

  template <int kLanes>
  struct Lanes {
    static constexpr int kCount = kLanes;
  };

  /// Calls work(first lane, how many as a type) until n are done: as even shares as at most
  /// Engine::kLanes allows.
  template <class Work>
  static void for_lanes(int64_t n, const Work& work) {
    const int64_t n_shares = (n + Engine::kLanes - 1) / Engine::kLanes;
    for (int64_t i = 0; i < n_shares; ++i) {
      const int64_t first = i * n / n_shares;
      with_lanes<Engine::kLanes>((i + 1) * n / n_shares - first, first, work);
    }
  }

  template <int kLanes, class Work>
  static void with_lanes(int64_t n, int64_t first, const Work& work) {
    if constexpr (kLanes > 1) {
      if (n < kLanes) {
        return with_lanes<kLanes - 1>(n, first, work);
      }
    }
    work(first, Lanes<kLanes>{});
  }

  const HeadShape& shape_;
  const BankView& bank_;
  float scale_;
  const GroupScratch& scratch_;
  int64_t n_steps_;
  int64_t n_strips_ = 0;
  int64_t strip_end_[kMaxStrips];  // what the strip's furthest-seeing row sees
  int64_t visible_[kGroupRows];
  RowSoftmax softmax_[kGroupRows];
};

template <class Engine>
void attend_groups(const HeadShape& shape,
                   const float* q,
                   int64_t n_rows,
                   float scale,
                   const BankView& bank,
                   const int64_t* visible,
                   const SoftmaxState& state) {
  const GroupScratch scratch(shape.head_dim);
  RowGroup<Engine> group(shape, bank, scale, scratch);
  for (int64_t row = 0; row < n_rows; row += kGroupRows) {
    group.attend(q + row * shape.head_dim,
                 smaller_of(n_rows - row, kGroupRows),
                 visible + row,
                 {state.largest + row, state.sum + row, state.out + row * shape.head_dim});
  }
}

}  // namespace
}  // namespace ssa::cpu
