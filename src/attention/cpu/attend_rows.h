// The attend kernel, for files of one instruction set; in an unnamed namespace for the reason given
// in softmax_rows.h.
//
//   out_h = sum_k 2^(score_hk - largest_h) value_k,   score_hk = scale * log2(e) * q_h . key_k
//
// Rows are taken in blocks. In a block, every key is loaded once for a tile of heads, then every
// value likewise. Both passes hold a tile of sums in registers: heads x 4 keys, heads x dimensions.
// Scores and weights of a block stay in the first-level cache; of rows, each byte comes once from
// memory. Meanwhile the next block is prefetched.
//
// Math<kType> is the arithmetic of an instruction set for a type of keys and values:
//   Vec                            see softmax_rows.h; sums are Vec::Register
//   Operand                        what is multiplied
//   kUnit                          dimensions that one Operand of a key covers
//   kCopies                        which vectors are copied before use
//   copy(vector, head_dim, out)    a vector as Operands, 0 beyond head_dim
//   store_query(values, n, out)    n floats, at most kUnit, as an Operand, 0 beyond n
//   load_query(at)                 that Operand
//   load_key(row, unit)            a unit of a key as an Operand
//   kWeightKeys, kWeightBytes      keys that one Operand of weights covers; bytes of one weight
//   store_weights(p, scales, out)  Vec::kLanes weights, times `scales` unless null; returns p as
//                                  rounded
//   broadcast(weights)             kWeightKeys weights, in all lanes
//   kUnitSums                      Operands, and sums, in a unit of the values of kWeightKeys keys
//   load_value(rows, unit, part)   one of these Operands
//   multiply_add(a, b, sum)        sum + a * b
//   kScoreHeads, kValueHeads       most heads in a tile
//   kSums                          most registers for sums of values
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "attention/cpu/attend.h"
#include "attention/cpu/row_blocks.h"
#include "attention/cpu/softmax_rows.h"

namespace ssa::cpu {
namespace {

/// kPartUnits: all where head_dim is not a multiple of kUnit, else none.
enum class Copies { kNever, kPartUnits, kAlways };

constexpr int64_t kBlockKeys = 48;
constexpr int64_t kKeyTile = 4;  // the sums of 4 keys fill 128 bits
constexpr int64_t kStretch = 8;  // keys between two looks at what to prefetch

/// One call of attend: its queries, the block at work, and the state that takes it in. Up to 260
/// KB, on the stack.
template <class Math, KvType kType>
class Attend {
 public:
  Attend(const HeadShape& shape, const float* q, float scale, const SoftmaxState& state)
      : state_(state),
        n_heads_(shape.group_size),
        head_dim_(shape.head_dim),
        n_units_((head_dim_ + Math::kUnit - 1) / Math::kUnit),
        query_bytes_(n_units_ * kOperandBytes),
        copies_(Math::kCopies == Copies::kAlways || head_dim_ % Math::kUnit != 0),
        factor_(scale * 1.44269504F),
        prefetch_(vector_bytes(kType, head_dim_)) {
    for (int64_t h = 0; h < n_heads_; ++h, q += head_dim_) {
      for (int64_t unit = 0; unit < n_units_; ++unit) {
        const int64_t first = unit * Math::kUnit;
        Math::store_query(
            q + first, head_dim_ - first, q_ + h * query_bytes_ + unit * kOperandBytes);
      }
    }
  }

  void take(std::span<const KvRun> runs) {
    take_blocks(RunReader(runs), [&](const Block& block) { score(block); });
  }

  void take(std::span<const ScoredValue> scored) {
    const ScoredValue* at = scored.data();
    take_blocks(ScoredReader(scored), [&](const Block& block) {
      for (int64_t k = 0; k < block.n; ++k, ++at) {
        key_scales_[k] = 1;
        for (int64_t h = 0; h < n_heads_; ++h) {
          scores_[h * kBlockKeys + k] = at->scores[h * at->score_stride];
        }
      }
    });
  }

 private:
  using Vec = typename Math::Vec;
  using Register = typename Vec::Register;
  using Operand = typename Math::Operand;
  using Block = RowBlock<kBlockKeys>;
  static constexpr bool kScaled = kType == KvType::kInt8;
  static constexpr int64_t kOperandBytes = sizeof(Operand);
  static constexpr bool kMayCopy = Math::kCopies != Copies::kNever;
  static constexpr int64_t kCopyBytes = kMaxHeadDim / Math::kUnit * kOperandBytes;

  template <class Reader, class Score>
  void take_blocks(Reader reader, const Score& score) {
    Block blocks[2];
    reader.read(blocks[0]);
    prefetch_.begin(blocks[0]);
    prefetch_.until(2 * kBlockKeys);
    for (int at = 0; blocks[at].n > 0; at = 1 - at) {
      reader.read(blocks[1 - at]);
      prefetch_.begin(blocks[1 - at]);
      score(blocks[at]);
      load_value_scales(blocks[at]);
      for (int64_t h = 0; h < n_heads_; ++h) {
        weigh(h, blocks[at].n);
      }
      add_values(blocks[at]);
    }
  }

  /// The vector as units: where it lies, or as copy number i.
  const std::byte* units(const std::byte* vector, int64_t i) {
    if constexpr (kMayCopy) {
      if (copies_) {
        Math::copy(vector, head_dim_, copied_ + i * kCopyBytes);
        return copied_ + i * kCopyBytes;
      }
    }
    return vector;
  }

  float vector_scale(const std::byte* vector) const {
    uint16_t bits;
    __builtin_memcpy(&bits, vector + head_dim_, sizeof bits);
    return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
  }

  /// scores_[h][k] = q_h . key_k, without the keys' scales. Half of the next block is prefetched.
  void score(const Block& block) {
    for (int64_t k = 0; k < block.n; k += kKeyTile) {
      prefetch_.until(k + kKeyTile);
      const std::byte* keys[kKeyTile];
      for (int64_t i = 0; i < kKeyTile; ++i) {
        keys[i] = units(block.key(k + i), i);
        if constexpr (kScaled) {
          key_scales_[k + i] = vector_scale(block.key(k + i));
        }
      }
      for_head_tiles<Math::kScoreHeads>(n_heads_, [&](int64_t head, auto heads) {
        score_tile<heads()>(keys, q_ + head * query_bytes_, scores_ + head * kBlockKeys + k);
      });
    }
  }

  template <int kHeads>
  void score_tile(const std::byte* const* keys, const std::byte* q, float* scores) const {
    Register sums[kHeads][kKeyTile];
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 4
      for (int k = 0; k < kKeyTile; ++k) {
        sums[h][k] = Vec::set(0);
      }
    }
    for (int64_t unit = 0; unit < n_units_; ++unit, q += kOperandBytes) {
      Operand queries[kHeads];
#pragma GCC unroll 4
      for (int h = 0; h < kHeads; ++h) {
        queries[h] = Math::load_query(q + h * query_bytes_);
      }
#pragma GCC unroll 4
      for (int k = 0; k < kKeyTile; ++k) {
        const Operand key = Math::load_key(keys[k], unit);
#pragma GCC unroll 4
        for (int h = 0; h < kHeads; ++h) {
          sums[h][k] = Math::multiply_add(queries[h], key, sums[h][k]);
        }
      }
    }
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      Vec::store_sums(sums[h][0], sums[h][1], sums[h][2], sums[h][3], scores + h * kBlockKeys);
    }
  }

  /// An int8 value's scale goes into its weight. A vector of zeros has scale 0; there any other
  /// does.
  void load_value_scales(const Block& block) {
    if constexpr (kScaled) {
      for (int64_t k = 0; k < kBlockKeys; ++k) {
        const float scale = vector_scale(block.value(k));
        value_scales_[k] = scale == 0 ? 1 : scale;
      }
    }
  }

  /// Turns head h's scores of n keys into weights, after raising the state's largest score where it
  /// must rise.
  void weigh(int64_t h, int64_t n) {
    float* scores = scores_ + h * kBlockKeys;
    if constexpr (kScaled) {
      for (int64_t k = 0; k < kBlockKeys; k += Vec::kLanes) {
        Vec::store(scores + k, Vec::multiply(Vec::load(scores + k), Vec::load(key_scales_ + k)));
      }
    }
    for (int64_t k = n; k < kBlockKeys; ++k) {
      scores[k] = -kInfinity;
    }
    Register largest = Vec::load(scores);
    for (int64_t k = Vec::kLanes; k < kBlockKeys; k += Vec::kLanes) {
      largest = Vec::larger(largest, Vec::load(scores + k));
    }
    const float block_largest = Vec::largest_lane(largest) * factor_;
    if (block_largest > state_.largest[h]) {
      raise_largest<Vec>(state_, h, head_dim_, block_largest);
    }
    // Where all scores are -infinity, all weights are 2^-infinity = 0.
    const Register offset = Vec::set(state_.largest[h] == -kInfinity ? 0.0F : -state_.largest[h]);
    const Register factor = Vec::set(factor_);
    Register sum = Vec::set(0);
    for (int64_t k = 0; k < kBlockKeys; k += Vec::kLanes) {
      const Register p = exp2_of<Vec>(Vec::multiply_add(Vec::load(scores + k), factor, offset));
      std::byte* weights = weights_ + (h * kBlockKeys + k) * Math::kWeightBytes;
      sum = Vec::add(sum, Math::store_weights(p, kScaled ? value_scales_ + k : nullptr, weights));
    }
    state_.sum[h] += Vec::sum_of_lanes(sum);
  }

  /// out_h += weights_[h][k] * value_k
  void add_values(const Block& block) {
    const int64_t n = (block.n + Math::kWeightKeys - 1) / Math::kWeightKeys * Math::kWeightKeys;
    const std::byte* values[kBlockKeys];
    for (int64_t k = 0; k < n; ++k) {
      values[k] = units(block.value(k), k);
    }
    for_head_tiles<Math::kValueHeads>(n_heads_, [&](int64_t head, auto heads) {
      add_value_tiles<heads(), units_in_tile(heads())>(values, n, head, 0);
    });
  }

  /// A power of two.
  static constexpr int units_in_tile(int heads) {
    int units = 8;
    while (units > 1 && units * heads * Math::kUnitSums > Math::kSums) {
      units /= 2;
    }
    return units;
  }

  /// Tiles of kUnits while that many are left, then of fewer.
  template <int kHeads, int kUnits>
  void add_value_tiles(const std::byte* const* values, int64_t n, int64_t head, int64_t unit) {
    for (; unit + kUnits <= n_units_; unit += kUnits) {
      add_value_tile<kHeads, kUnits>(values, n, head, unit);
    }
    if constexpr (kUnits > 1) {
      add_value_tiles<kHeads, kUnits / 2>(values, n, head, unit);
    }
  }

  /// The first tile of heads prefetches the other half of the next block.
  template <int kHeads, int kUnits>
  void add_value_tile(const std::byte* const* values, int64_t n, int64_t head, int64_t unit) {
    constexpr int kTileSums = kUnits * Math::kUnitSums;
    Register sums[kHeads][kTileSums];
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 16
      for (int i = 0; i < kTileSums; ++i) {
        sums[h][i] = Vec::set(0);
      }
    }
    const std::byte* weights = weights_ + head * kBlockKeys * Math::kWeightBytes;
    for (int64_t k = 0; k < n;) {
      const int64_t end = k + kStretch < n ? k + kStretch : n;
      if (head == 0) {
        prefetch_.until(kBlockKeys + (unit * kBlockKeys + kUnits * end) / n_units_);
      }
#pragma GCC unroll 2
      for (; k < end; k += Math::kWeightKeys) {
        Operand weight[kHeads];
#pragma GCC unroll 8
        for (int h = 0; h < kHeads; ++h) {
          weight[h] = Math::broadcast(weights + (h * kBlockKeys + k) * Math::kWeightBytes);
        }
#pragma GCC unroll 16
        for (int i = 0; i < kTileSums; ++i) {
          const Operand value =
              Math::load_value(values + k, unit + i / Math::kUnitSums, i % Math::kUnitSums);
#pragma GCC unroll 8
          for (int h = 0; h < kHeads; ++h) {
            sums[h][i] = Math::multiply_add(weight[h], value, sums[h][i]);
          }
        }
      }
    }
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      add_to_out<kTileSums>(sums[h], head + h, unit * Math::kUnit);
    }
  }

  template <int kTileSums>
  void add_to_out(const Register* sums, int64_t head, int64_t first) {
    float* out = state_.out + head * head_dim_ + first;
    int64_t left = head_dim_ - first;
#pragma GCC unroll 16
    for (int i = 0; i < kTileSums; ++i, out += Vec::kLanes, left -= Vec::kLanes) {
      if (left >= Vec::kLanes) {
        Vec::store(out, Vec::add(Vec::load(out), sums[i]));
      } else if (left > 0) {
        Vec::store_first(out, left, Vec::add(Vec::load_first(out, left), sums[i]));
      }
    }
  }

  const SoftmaxState state_;
  const int64_t n_heads_;
  const int64_t head_dim_;
  const int64_t n_units_;      // in a vector
  const int64_t query_bytes_;  // of one head, in q_
  const bool copies_;
  const float factor_;
  BlockPrefetch<kBlockKeys> prefetch_;
  alignas(64) float scores_[kMaxGroup * kBlockKeys];  // [group, key]
  alignas(64) float key_scales_[kBlockKeys] = {};
  alignas(64) float value_scales_[kBlockKeys];
  alignas(64) std::byte weights_[kMaxGroup * kBlockKeys * Math::kWeightBytes];      // [group, key]
  alignas(64) std::byte q_[kMaxGroup * kMaxHeadDim / Math::kUnit * kOperandBytes];  // [group, unit]
  alignas(64) std::byte copied_[kMayCopy ? kBlockKeys * kCopyBytes : 1];            // [key, unit]
};

template <template <KvType> class Math, KvType kType>
void attend_as(const HeadShape& shape,
               const float* q,
               float scale,
               std::span<const KvRun> runs,
               std::span<const ScoredValue> scored,
               const SoftmaxState& state) {
  Attend<Math<kType>, kType> attend(shape, q, scale, state);
  attend.take(runs);
  attend.take(scored);
}

/// AttendKernels::attend with the arithmetic of one instruction set.
template <template <KvType> class Math>
void attend(const HeadShape& shape,
            const float* q,
            float scale,
            std::span<const KvRun> runs,
            std::span<const ScoredValue> scored,
            const SoftmaxState& state) {
  switch (shape.type) {
    case KvType::kF32:
      return attend_as<Math, KvType::kF32>(shape, q, scale, runs, scored, state);
    case KvType::kBF16:
      return attend_as<Math, KvType::kBF16>(shape, q, scale, runs, scored, state);
    case KvType::kInt8:
      return attend_as<Math, KvType::kInt8>(shape, q, scale, runs, scored, state);
  }
}

}  // namespace
}  // namespace ssa::cpu
