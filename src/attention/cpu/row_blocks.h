// Rows from anywhere, in blocks; see attend_rows.h. In an unnamed namespace for the reason given in
// softmax_rows.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "attention/cpu/attend.h"

namespace ssa::cpu {
namespace {

constexpr int64_t kMaxGroup = 64;
constexpr int64_t kMaxHeadDim = 512;
constexpr int64_t kCacheLine = 64;

/// What fills up a block: as a key it scores 0 (until -infinity is put there), as a value it adds
/// nothing.
alignas(kCacheLine) constexpr std::byte kZeroRow[kMaxHeadDim * sizeof(float)] = {};

/// The vectors of up to kKeys tokens, in the order in which rows hold them; those from n on are
/// kZeroRow.
template <int64_t kKeys>
struct RowBlock {
  int64_t n = 0;
  const std::byte* vectors[2 * kKeys];  // key 0, value 0, key 1, ...

  const std::byte* key(int64_t k) const { return vectors[2 * k]; }
  const std::byte* value(int64_t k) const { return vectors[2 * k + 1]; }

  void push(const std::byte* key, const std::byte* value) {
    vectors[2 * n] = key;
    vectors[2 * n + 1] = value;
    ++n;
  }
  void fill_up() {
    for (int64_t i = 2 * n; i < 2 * kKeys; ++i) {
      vectors[i] = kZeroRow;
    }
  }
};

/// Cuts runs into blocks. A block takes from as many runs as it needs; one with n = 0 comes after
/// the last.
class RunReader {
 public:
  explicit RunReader(std::span<const KvRun> runs) : run_(runs.data()), end_(run_ + runs.size()) {}

  template <int64_t kKeys>
  void read(RowBlock<kKeys>& block) {
    block.n = 0;
    while (run_ != end_ && block.n < kKeys) {
      const int64_t left = run_->n_tokens - token_, room = kKeys - block.n;
      const int64_t n = left < room ? left : room;
      const std::byte* key = run_->keys + token_ * run_->key_stride;
      const std::byte* value = run_->values + token_ * run_->value_stride;
      for (const int64_t end = token_ + n; token_ < end; ++token_) {
        block.push(key, value);
        key += run_->key_stride;
        value += run_->value_stride;
      }
      if (token_ == run_->n_tokens) {
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
  explicit ScoredReader(std::span<const ScoredValue> scored)
      : next_(scored.data()), end_(next_ + scored.size()) {}

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

/// Prefetches a block's vectors, a few at a time while another block is worked on: all at once they
/// would stall the loads behind them (half the speed on Zen 4). Into the second-level cache, which
/// has more misses under way: through the first, chunks of 4 KB anywhere arrive at 9 GB/s a core
/// instead of 16.
template <int64_t kKeys>
class BlockPrefetch {
 public:
  explicit BlockPrefetch(int64_t bytes_per_vector) : bytes_(bytes_per_vector) {}

  void begin(const RowBlock<kKeys>& block) {
    vectors_ = block.vectors;
    n_ = 2 * block.n;
    done_ = 0;
  }

  /// Goes on until `n` of a full block's 2 * kKeys vectors are asked for.
  void until(int64_t n) {
    for (n = n < n_ ? n : n_; done_ < n; ++done_) {
      const std::byte* vector = vectors_[done_];
#pragma GCC unroll 4
      for (int64_t i = 0; i < bytes_; i += kCacheLine) {
        __builtin_prefetch(vector + i, 0, 2);
      }
    }
  }

 private:
  const int64_t bytes_;
  const std::byte* const* vectors_ = nullptr;
  int64_t n_ = 0;
  int64_t done_ = 0;
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

/// Cuts heads into tiles of at most kMost, as even as can be: f(first head,
/// std::integral_constant<int, heads>).
template <int kMost, class Function>
void for_head_tiles(int64_t n_heads, const Function& f) {
  const int64_t n_tiles = (n_heads + kMost - 1) / kMost;
  for (int64_t tile = 0, first = 0; tile < n_tiles; ++tile) {
    const int64_t end = n_heads * (tile + 1) / n_tiles;
    with_constant<kMost>(end - first, [&](auto heads) { f(first, heads); });
    first = end;
  }
}

}  // namespace
}  // namespace ssa::cpu
