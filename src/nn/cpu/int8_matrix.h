// Matrices of 8-bit weights, and their product with a few tokens, on the CPU.
//
// A row is cut into blocks of 32 weights with one scale each, as in GGUF's Q8_0: weight = scale *
// byte. 16 rows make a strip; the same block of all 16 is a tile, interleaved so that one register
// holds the same four columns of all rows: dot products need no sum across a register, and each
// lane ends as one row's result.
//
//   tile    [8][16 rows][4 columns] bytes, each plus 128 (AVX-512's dot product takes unsigned
//   times signed), then the 16
//           rows' scales as f16: 544 bytes
//   strip   [n_blocks] tiles
//
// Rows and columns that fill up strips and blocks are 0. A decode step reads 34 bytes a block, 1.06
// bytes a weight, in one unbroken run: with a strip's scales behind its bytes, reading ahead fails
// at each gap, and half the speed is lost (11 against 22 GB/s a core on EPYC).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu_features.h"
#include "nn/cpu/bf16.h"

namespace ssa::cpu {

inline constexpr int64_t kBlockWeights = 32;
inline constexpr int64_t kBlockBytes = 34;  // of GGUF's Q8_0: f16 scale, 32 signed bytes
inline constexpr int64_t kStripRows = 16;
inline constexpr int64_t kTileBytes = kStripRows * kBlockBytes;
inline constexpr int64_t kTileScales = kStripRows * kBlockWeights;  // where they begin
inline constexpr int64_t kMaxTokens = 8;                            // of one product

/// A matrix in strips; refers to memory of others.
struct Int8MatrixView {
  const std::byte* strips = nullptr;
  int64_t n_rows = 0;
  int64_t n_columns = 0;

  int64_t n_strips() const { return (n_rows + kStripRows - 1) / kStripRows; }
  int64_t n_blocks() const {
    return (n_columns + kBlockWeights - 1) / kBlockWeights;
  }  // of one row
  int64_t strip_bytes() const { return n_blocks() * kTileBytes; }
};

/// Tokens in the same blocks, of whole numbers up to 16,256 = 128 * 127 (15 bits) with one scale.
/// Memory is what decoding waits for, so they cost nothing there, and 8 bits would lose more than
/// the weights do: of 1,022 tokens of WikiText-2, SmolLM2-135M keeps f32's top token in 97.3% (8
/// bits: 95.8%). How the numbers lie in their two bytes is the instruction set's affair. Buffers
/// are the caller's.
struct QuantizedTokens {
  int16_t* numbers = nullptr;  // [n_tokens, n_blocks * 32], 0 behind the last column
  float* scales = nullptr;     // [n_tokens, n_blocks]
  int32_t* offsets = nullptr;  // [n_tokens, n_blocks]: -128 * the block's sum, which takes the
                               // weights' 128 out again
};

/// Fills one strip from rows of Q8_0 blocks (each n_blocks * 34 bytes, one behind the other);
/// n_rows <= 16 of them.
void pack_strip(const std::byte* rows, int64_t n_rows, int64_t n_blocks, std::byte* strip);

/// Functions of one instruction set, for numbers of type T: float or BF16. Safe from many threads;
/// none allocates.
template <class T>
struct Int8Kernels {
  /// n_tokens <= 8 rows of n_columns numbers, one behind the other.
  void (*quantize)(const T* x, int64_t n_tokens, int64_t n_columns, const QuantizedTokens& out);
  /// Rows of strips [begin, end): out[t * out_stride + row] = weights[row] . x[t] + bias[row]. bias
  /// may be null.
  void (*multiply)(const Int8MatrixView& weights,
                   const QuantizedTokens& x,
                   int64_t n_tokens,
                   int64_t begin,
                   int64_t end,
                   const T* bias,  // [n_rows]
                   T* out,
                   int64_t out_stride);
  /// Rows [begin, end) of the weights as numbers: [end - begin, n_columns].
  void (*unpack)(const Int8MatrixView& weights, int64_t begin, int64_t end, T* out);
};

template <class T>
const Int8Kernels<T>& int8_kernels(InstructionSet set);

/// The tables it chooses from, each in a file of its own.
template <class T>
const Int8Kernels<T>& int8_kernels_portable();
template <class T>
const Int8Kernels<T>& int8_kernels_avx2();
template <class T>
const Int8Kernels<T>& int8_kernels_avx512();

}  // namespace ssa::cpu
