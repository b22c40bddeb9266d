// The attend kernel, for files of one instruction set; in an unnamed namespace for the reason given in softmax_rows.h.
//
//   out_h = sum_k 2^(score_hk - largest_h) value_k,   score_hk = scale * log2(e) * q_h . key_k
//
// Rows are taken in blocks of kBlockKeys, from as many runs as it takes. In a block every key is loaded, and widened where
// its type is not the one that is computed in, once for a tile of heads; then every value likewise. Both passes hold a
// tile of sums in registers: heads x 4 keys, heads x dimensions. While a block is worked on, the next is prefetched.
//
// Math is the arithmetic of one instruction set and element type, on operands of kUnit dimensions:
//   Vec               softmax_rows.h; sums are Vec::Register
//   kElementBytes     of the element that it computes in, and kStored, the KvType that has these as they are
//   kBlockKeys        keys in a block
//   kScoreHeads       heads in a tile of scores; kValueHeads: in a tile of values; kSums: registers for its sums
//   kWeightKeys       keys that one operand of weights covers; kUnitSums: registers for the sums of a unit of values
//   load(row)         a unit of a row
//   broadcast(weight) the weights of kWeightKeys keys, in all lanes
//   load_values(rows, offset, operands)  a unit of kWeightKeys rows, as kUnitSums operands
//   multiply_add(a, b, sum)
//   store_weights(p, scales, out)        Vec::kLanes weights, times `scales` unless null; returns p as rounded
//   store_element(values, n, out)        n <= kUnit floats as one unit of elements, 0 beyond n
//   widen<kType>(vector, head_dim, out)  a vector as units of elements, without its scale
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "attention/cpu/attend.h"
#include "attention/cpu/softmax_rows.h"

namespace ssa::cpu {
namespace {

constexpr int64_t kMaxGroup = 64;
constexpr int64_t kMaxHeadDim = 512;
constexpr int64_t kKeyTile = 4;  // the sums of 4 keys fill 128 bits
constexpr int64_t kCacheLine = 64;

/// What fills up a block: scores 0 until they are set to -infinity, and adds nothing.
alignas(64) constexpr std::byte kZeroRow[kMaxHeadDim * sizeof(float) + 2] = {};

/// Keys and values of one block; those from n on are kZeroRow.
template <int64_t kKeys>
struct RowBlock {
  int64_t n = 0;
  const std::byte* keys[kKeys];
  const std::byte* values[kKeys];

  void push(const std::byte* key, const std::byte* value) {
    keys[n] = key;
    values[n++] = value;
  }
  void fill_up() {
    for (int64_t k = n; k < kKeys; ++k) {
      keys[k] = values[k] = kZeroRow;
    }
  }
};

/// Cuts runs into blocks.
class RunReader {
 public:
  explicit RunReader(std::span<const KvRun> runs) : run_(runs.data()), end_(runs.data() + runs.size()) {}

  template <int64_t kKeys>
  void read(RowBlock<kKeys>& block) {
    block.n = 0;
    while (run_ != end_ && block.n < kKeys) {
      const int64_t left = run_->n_tokens - token_, room = kKeys - block.n;
      const int64_t end = token_ + (left < room ? left : room);
      for (; token_ < end; ++token_) {
        block.push(run_->keys + token_ * run_->key_stride, run_->values + token_ * run_->value_stride);
      }
      if (token_ >= run_->n_tokens) {
        token_ = 0;
        ++run_;
      }
    }
    block.fill_up();
  }

 private:
  const KvRun* run_;
  const KvRun* end_;
  int64_t token_ = 0;
};

/// Cuts scored values into blocks; their keys are not used.
class ScoredReader {
 public:
  explicit ScoredReader(std::span<const ScoredValue> scored) : next_(scored.data()), end_(next_ + scored.size()) {}

  template <int64_t kKeys>
  void read(RowBlock<kKeys>& block) {
    for (block.n = 0; next_ != end_ && block.n < kKeys; ++next_) {
      block.push(kZeroRow, next_->value);
    }
    block.fill_up();
  }

 private:
  const ScoredValue* next_;
  const ScoredValue* end_;
};

/// f(std::integral_constant<int, n>), 1 <= n <= kMost.
template <int kMost, class Function>
void with_constant(int64_t n, const Function& f) {
  if constexpr (kMost > 1) {
    if (n < kMost) {
      return with_constant<kMost - 1>(n, f);
    }
  }
  f(std::integral_constant<int, kMost>{});
}

/// Cuts heads into tiles of at most kMost, as even as can be: f(first head, std::integral_constant<int, heads>).
template <int kMost, class Function>
void for_head_tiles(int64_t n_heads, const Function& f) {
  const int64_t n_tiles = (n_heads + kMost - 1) / kMost;
  for (int64_t tile = 0, first = 0; tile < n_tiles; ++tile) {
    const int64_t end = n_heads * (tile + 1) / n_tiles;
    with_constant<kMost>(end - first, [&](auto heads) { f(first, heads); });
    first = end;
  }
}

/// One call of attend: queries as elements, the block at work, and the state that takes it in.
template <class Math, KvType kType>
class Attend {
 public:
  using Vec = typename Math::Vec;
  using Register = typename Vec::Register;
  using Operand = typename Math::Operand;
  static constexpr int64_t kKeys = Math::kBlockKeys;
  using Block = RowBlock<kKeys>;

  Attend(const HeadShape& shape, const float* q, float scale, const SoftmaxState& state)
      : state_(state),
        n_heads_(shape.group_size),
        head_dim_(shape.head_dim),
        row_bytes_((head_dim_ + Math::kUnit - 1) / Math::kUnit * kUnitBytes),
        vector_bytes_(vector_bytes(kType, head_dim_)),
        widens_(kType != Math::kStored || head_dim_ % Math::kUnit != 0),
        factor_(scale * 1.44269504F) {
    for (int64_t h = 0; h < n_heads_; ++h) {
      for (int64_t i = 0; i < head_dim_; i += Math::kUnit) {
        Math::store_element(q + h * head_dim_ + i, head_dim_ - i, q_ + h * row_bytes_ + i * Math::kElementBytes);
      }
    }
  }

  void take(std::span<const KvRun> runs) {
    RunReader reader(runs);
    take_blocks(reader, [&](const Block& block, const Block& next) { score(block, next); });
  }

  void take(std::span<const ScoredValue> scored) {
    ScoredReader reader(scored);
    const ScoredValue* at = scored.data();
    take_blocks(reader, [&](const Block& block, const Block&) {
      for (int64_t k = 0; k < block.n; ++k, ++at) {
        for (int64_t h = 0; h < n_heads_; ++h) {
          scores_[h * kKeys + k] = at->scores[h * at->score_stride];
        }
        key_scales_[k] = 1;
      }
    });
  }

 private:
  static constexpr bool kScaled = kType == KvType::kInt8;
  static constexpr int64_t kUnitBytes = Math::kUnit * Math::kElementBytes;
  static constexpr int64_t kMaxRowBytes = kMaxHeadDim * Math::kElementBytes;

  template <class Reader, class Score>
  void take_blocks(Reader& reader, const Score& score) {
    Block blocks[2];
    reader.read(blocks[0]);
    for (int at = 0; blocks[at].n > 0; at = 1 - at) {
      const Block &block = blocks[at], &next = blocks[1 - at];
      reader.read(blocks[1 - at]);
      score(block, next);
      load_value_scales(block);
      for (int64_t h = 0; h < n_heads_; ++h) {
        weigh(h, block.n);
      }
      add_values(block, next);
    }
  }

  void prefetch(const std::byte* const* vectors, int64_t begin, int64_t end) const {
    for (int64_t k = begin; k < end; ++k) {
      for (int64_t i = 0; i < vector_bytes_; i += kCacheLine) {
        __builtin_prefetch(vectors[k] + i, 0, 2);
      }
    }
  }

  /// The vector as elements: where it lies, or widened into `room`.
  const std::byte* elements(const std::byte* vector, std::byte* room) const {
    if (!widens_) {
      return vector;
    }
    Math::template widen<kType>(vector, head_dim_, room);
    return room;
  }

  static float vector_scale(const std::byte* vector, int64_t head_dim) {
    uint16_t bits;
    __builtin_memcpy(&bits, vector + head_dim, sizeof bits);
    return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
  }

  /// scores_[h][k] = q_h . key_k, without the keys' scales.
  void score(const Block& block, const Block& next) {
    for (int64_t k = 0; k < kKeys; k += kKeyTile) {
      prefetch(next.keys, k, k + kKeyTile);
      if (k >= block.n) {
        continue;
      }
      const std::byte* keys[kKeyTile];
      for (int64_t i = 0; i < kKeyTile; ++i) {
        keys[i] = elements(block.keys[k + i], rows_ + i * kMaxRowBytes);
        if constexpr (kScaled) {
          key_scales_[k + i] = vector_scale(block.keys[k + i], head_dim_);
        }
      }
      for_head_tiles<Math::kScoreHeads>(n_heads_, [&](int64_t head, auto heads) {
        score_tile<heads()>(keys, q_ + head * row_bytes_, scores_ + head * kKeys + k);
      });
    }
  }

  template <int kHeads>
  void score_tile(const std::byte* const* keys, const std::byte* q, float* scores) const {
    Register sums[kHeads][kKeyTile];
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 4
      for (int k = 0; k < kKeyTile; ++k) {
        sums[h][k] = Vec::set(0);
      }
    }
    for (int64_t i = 0; i < row_bytes_; i += kUnitBytes) {
      Operand queries[kHeads];
#pragma GCC unroll 8
      for (int h = 0; h < kHeads; ++h) {
        queries[h] = Math::load(q + h * row_bytes_ + i);
      }
#pragma GCC unroll 4
      for (int k = 0; k < kKeyTile; ++k) {
        const Operand key = Math::load(keys[k] + i);
#pragma GCC unroll 8
        for (int h = 0; h < kHeads; ++h) {
          sums[h][k] = Math::multiply_add(queries[h], key, sums[h][k]);
        }
      }
    }
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      Vec::store_sums(sums[h][0], sums[h][1], sums[h][2], sums[h][3], scores + h * kKeys);
    }
  }

  /// An int8 value's scale goes into its weight. A vector of zeros has scale 0, and any will do.
  void load_value_scales(const Block& block) {
    if constexpr (kScaled) {
      for (int64_t k = 0; k < kKeys; ++k) {
        const float scale = vector_scale(block.values[k], k < block.n ? head_dim_ : 0);
        value_scales_[k] = scale == 0 ? 1 : scale;
      }
    }
  }

  /// Turns head h's scores of n keys into weights, after raising the state's largest score where it must rise.
  void weigh(int64_t h, int64_t n) {
    float* scores = scores_ + h * kKeys;
    for (int64_t k = 0; k < n; k += Vec::kLanes) {
      Register score = Vec::multiply(Vec::load(scores + k), Vec::set(factor_));
      if constexpr (kScaled) {
        score = Vec::multiply(score, Vec::load(key_scales_ + k));
      }
      Vec::store(scores + k, score);
    }
    for (int64_t k = n; k < kKeys; ++k) {
      scores[k] = -kInfinity;
    }
    Register largest = Vec::load(scores);
    for (int64_t k = Vec::kLanes; k < kKeys; k += Vec::kLanes) {
      largest = Vec::larger(largest, Vec::load(scores + k));
    }
    const float block_largest = Vec::largest_lane(largest);
    if (block_largest > state_.largest[h]) {
      raise_largest<Vec>(state_, h, head_dim_, block_largest);
    }
    // Where all scores are -infinity, all weights are 2^-infinity = 0.
    const Register reference = Vec::set(state_.largest[h] == -kInfinity ? 0.0F : state_.largest[h]);
    Register sum = Vec::set(0);
    for (int64_t k = 0; k < kKeys; k += Vec::kLanes) {
      const Register p = exp2_of<Vec>(Vec::subtract(Vec::load(scores + k), reference));
      std::byte* out = weights_ + (h * kKeys + k) * Math::kElementBytes;
      sum = Vec::add(sum, Math::store_weights(p, kScaled ? value_scales_ + k : nullptr, out));
    }
    state_.sum[h] += Vec::sum_of_lanes(sum);
  }

  /// out_h += weights_[h][k] * value_k
  void add_values(const Block& block, const Block& next) {
    const std::byte* values[kKeys];
    for (int64_t k = 0; k < block.n; ++k) {
      values[k] = elements(block.values[k], rows_ + k * kMaxRowBytes);
    }
    const int64_t n = (block.n + Math::kWeightKeys - 1) / Math::kWeightKeys * Math::kWeightKeys;
    for (int64_t k = block.n; k < n; ++k) {
      values[k] = kZeroRow;
    }
    prefetch(next.values, 0, kKeys);
    for_head_tiles<Math::kValueHeads>(n_heads_, [&](int64_t head, auto heads) {
      add_value_tiles<heads(), unit_tile(heads())>(values, n, head, 0);
    });
  }

  /// Units in a tile of values: a power of two.
  static constexpr int unit_tile(int heads) {
    int units = 8;
    while (units > 1 && units * heads * Math::kUnitSums > Math::kSums) {
      units /= 2;
    }
    return units;
  }

  /// Tiles of kUnits while that many are left, then of fewer.
  template <int kHeads, int kUnits>
  void add_value_tiles(const std::byte* const* values, int64_t n, int64_t head, int64_t offset) {
    for (; offset + kUnits * kUnitBytes <= row_bytes_; offset += kUnits * kUnitBytes) {
      add_value_tile<kHeads, kUnits>(values, n, head, offset);
    }
    if constexpr (kUnits > 1) {
      add_value_tiles<kHeads, kUnits / 2>(values, n, head, offset);
    }
  }

  template <int kHeads, int kUnits>
  void add_value_tile(const std::byte* const* values, int64_t n, int64_t head, int64_t offset) {
    constexpr int kTileSums = kUnits * Math::kUnitSums;
    Register sums[kHeads][kTileSums];
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 16
      for (int i = 0; i < kTileSums; ++i) {
        sums[h][i] = Vec::set(0);
      }
    }
    const std::byte* weights = weights_ + head * kKeys * Math::kElementBytes;
    for (int64_t k = 0; k < n; k += Math::kWeightKeys) {
      Operand operands[kTileSums];
#pragma GCC unroll 8
      for (int u = 0; u < kUnits; ++u) {
        Math::load_values(values + k, offset + u * kUnitBytes, operands + u * Math::kUnitSums);
      }
#pragma GCC unroll 8
      for (int h = 0; h < kHeads; ++h) {
        const Operand weight = Math::broadcast(weights + (h * kKeys + k) * Math::kElementBytes);
#pragma GCC unroll 16
        for (int i = 0; i < kTileSums; ++i) {
          sums[h][i] = Math::multiply_add(weight, operands[i], sums[h][i]);
        }
      }
    }
    const int64_t first = offset / Math::kElementBytes;
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      float* out = state_.out + (head + h) * head_dim_ + first;
#pragma GCC unroll 16
      for (int i = 0; i < kTileSums; ++i) {
        const int64_t left = head_dim_ - first - i * Vec::kLanes;
        if (left > 0) {
          float* at = out + i * Vec::kLanes;
          Vec::store_first(at, left, Vec::add(Vec::load_first(at, left), sums[h][i]));
        }
      }
    }
  }

  const SoftmaxState state_;
  const int64_t n_heads_;
  const int64_t head_dim_;
  const int64_t row_bytes_;     // of a row of elements
  const int64_t vector_bytes_;  // as stored
  const bool widens_;
  const float factor_;
  alignas(64) float scores_[kMaxGroup * kKeys];  // [group, key]
  alignas(64) float key_scales_[kKeys] = {};
  alignas(64) float value_scales_[kKeys];
  alignas(64) std::byte weights_[kMaxGroup * kKeys * Math::kElementBytes];  // [group, key]
  alignas(64) std::byte q_[kMaxGroup * kMaxRowBytes];                       // [group, head_dim]
  alignas(64) std::byte rows_[kKeys * kMaxRowBytes];                        // widened
};

template <class Math, KvType kType>
void attend_as(const HeadShape& shape,
               const float* q,
               float scale,
               std::span<const KvRun> runs,
               std::span<const ScoredValue> scored,
               const SoftmaxState& state) {
  Attend<Math, kType> attend(shape, q, scale, state);
  attend.take(runs);
  attend.take(scored);
}

}  // namespace
}  // namespace ssa::cpu
