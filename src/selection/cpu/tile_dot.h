// The inner loop of everything that multiplies rows by tiles: the scan, and both products of
// prefill over a bank.
//
//   sums[row][lane] += sum over steps of a[row][step] * b[step][lane]
//
// A lane is 16 columns: the keys of a tile, or 16 dimensions of values. One load of b serves all
// rows, whose numbers are broadcast; no sum crosses a register. How many dimensions make a step,
// and in which type they are multiplied, is the business of a Math type, of which tile_math_*.h has
// three an instruction set (F32, BF16, Int8):
//
//   Sum                     16 running sums
//   Columns, Row            one step of a lane, and of a row broadcast
//   kDims                   dimensions a step
//   kRowWords               32-bit words of a row's step
//   kMaxRows                how many rows the scan takes at a time: their sums fit into registers
//   pack(q, n, words)       a row's n numbers as steps; returns a factor for finish()
//   load, broadcast         a step of a lane, and of a row
//   add_product             a step's products, added to sums
//   finish                  sums as floats, by the factor and, for int8, the keys' scales
//
// A sum takes its steps in order, one chain a column, whatever the block: what else is in the block
// changes no bit.
//
// All of this lies in unnamed namespaces: each file that includes it compiles its own copy for its
// instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ssa::cpu {
namespace {

inline constexpr int64_t kLaneBytes = 64;

/// Where b's steps and lanes lie, in bytes. Tiles: {kLaneBytes, tile_bytes}.
struct ColumnLayout {
  int64_t step = 0;
  int64_t lane = 0;
};

/// a: kRowWords words at row * kRowStride + step * kStepStride, both in words. b is prefetched
/// kAhead bytes ahead.
template <class Math, int kRows, int kLanes, int kRowStride, int kStepStride, int kAhead = 0>
[[gnu::always_inline]] inline void add_products(const uint32_t* a,
                                                const std::byte* b,
                                                ColumnLayout layout,
                                                int64_t n_steps,
                                                typename Math::Sum (&sums)[kRows][kLanes]) {
  for (int64_t step = 0; step < n_steps; ++step) {
    typename Math::Columns columns[kLanes];
#pragma GCC unroll 8
    for (int t = 0; t < kLanes; ++t) {
      columns[t] = Math::load(b + t * layout.lane);
      if constexpr (kAhead > 0) {
        __builtin_prefetch(b + t * layout.lane + kAhead);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto row = Math::broadcast(a + r * kRowStride);
#pragma GCC unroll 8
      for (int t = 0; t < kLanes; ++t) {
        sums[r][t] = Math::add_product(sums[r][t], columns[t], row);
      }
    }
    a += kStepStride;
    b += layout.step;
  }
}

}  // namespace
}  // namespace ssa::cpu
