#include "nn/cuda/row_kernels.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

/// All of it is bound by memory: 16 bytes a thread and load, and every number read and written
/// once.
namespace ssa::cuda {
namespace {

using Bf16 = __nv_bfloat16;
constexpr int kWidth = 8;  ///< Numbers of bf16 in 16 bytes.
constexpr int kThreads = 256;

struct Eight {
  float at[kWidth];
};

__device__ __forceinline__ Eight load8(const Bf16* from) {
  const uint4 raw = *reinterpret_cast<const uint4*>(from);
  const uint32_t pairs[4] = {raw.x, raw.y, raw.z, raw.w};
  Eight out;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out.at[2 * i] = __uint_as_float(pairs[i] << 16);
    out.at[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
  }
  return out;
}

__device__ __forceinline__ Eight load8(const float* from) {
  const float4 low = reinterpret_cast<const float4*>(from)[0];
  const float4 high = reinterpret_cast<const float4*>(from)[1];
  return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}

__device__ __forceinline__ void store8(Bf16* to, const Eight& x) {
  uint32_t pairs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(x.at[2 * i], x.at[2 * i + 1]);
    pairs[i] = *reinterpret_cast<const uint32_t*>(&both);
  }
  *reinterpret_cast<uint4*>(to) = uint4{pairs[0], pairs[1], pairs[2], pairs[3]};
}

__device__ __forceinline__ float rounded(float x) {
  return __bfloat162float(__float2bfloat16(x));
}

/// Number of this thread among all: 32 bits, whose divisions are cheap.
__device__ __forceinline__ uint32_t thread_number() {
  return blockIdx.x * kThreads + threadIdx.x;
}

unsigned blocks_for(int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

/// Can `count` things be told apart by thread_number()?
bool countable(int64_t count) {
  return count > 0 && count <= INT64_C(0xffffff00);
}

bool aligned(const void* p) {
  return p != nullptr && reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

template <class... Number>
bool are_widths(Number... numbers) {
  return ((numbers % kWidth == 0) && ...);
}

// ---------------------------------------------------------------------------------------------
// rotary

/// A thread turns 8 numbers of the first half against their 8 partners in the second.
template <class Table>
__global__ void __launch_bounds__(kThreads) rotary_kernel(const __grid_constant__ Rotary args) {
  const int half = args.head_dim / 2;
  const uint32_t pieces = half / kWidth, i = thread_number(), row = i / pieces;
  const int64_t token = row / static_cast<uint32_t>(args.heads);
  const int64_t head = row % static_cast<uint32_t>(args.heads);
  const int at = static_cast<int>(i % pieces) * kWidth;
  if (token >= args.tokens) {
    return;
  }
  const Bf16* x = static_cast<const Bf16*>(args.x) + token * args.x_token_stride +
                  head * args.x_head_stride + at;
  Bf16* out = static_cast<Bf16*>(args.out) + token * args.out_token_stride +
              head * args.out_head_stride + at;
  const int64_t table = token * args.head_dim + at;
  const Table *cos = static_cast<const Table*>(args.cos) + table,
              *sin = static_cast<const Table*>(args.sin) + table;
  const Eight low = load8(x), high = load8(x + half);
  const Eight cos_low = load8(cos), cos_high = load8(cos + half);
  const Eight sin_low = load8(sin), sin_high = load8(sin + half);
  const float sign = args.inverse ? -1.0f : 1.0f;
  Eight new_low, new_high;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    new_low.at[j] = low.at[j] * cos_low.at[j] - sign * high.at[j] * sin_low.at[j];
    new_high.at[j] = high.at[j] * cos_high.at[j] + sign * low.at[j] * sin_high.at[j];
  }
  store8(out, new_low);
  store8(out + half, new_high);
}

// -----------------------------------------------------------------------------------------------
// SiLU

__device__ __forceinline__ float sigmoid(float x) {
  return 1.0f / (1.0f + __expf(-x));
}

__global__ void __launch_bounds__(kThreads) silu_kernel(const __grid_constant__ SiluTimes args) {
  const uint32_t pieces = static_cast<uint32_t>(args.columns / kWidth), i = thread_number();
  const int64_t row = i / pieces, column = i % pieces * kWidth;
  if (row >= args.rows) {
    return;
  }
  const Eight gate = load8(static_cast<const Bf16*>(args.gate) + row * args.gate_stride + column);
  const Eight up = load8(static_cast<const Bf16*>(args.up) + row * args.up_stride + column);
  Eight out;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    out.at[j] = gate.at[j] * sigmoid(gate.at[j]) * up.at[j];
  }
  store8(static_cast<Bf16*>(args.out) + row * args.columns + column, out);
}

__global__ void __launch_bounds__(kThreads)
    silu_backward_kernel(const __grid_constant__ SiluTimesBackward args) {
  const uint32_t pieces = static_cast<uint32_t>(args.columns / kWidth), i = thread_number();
  const int64_t row = i / pieces, column = i % pieces * kWidth;
  if (row >= args.rows) {
    return;
  }
  const Eight gate = load8(static_cast<const Bf16*>(args.gate) + row * args.gate_stride + column);
  const Eight up = load8(static_cast<const Bf16*>(args.up) + row * args.up_stride + column);
  const Eight dout = load8(static_cast<const Bf16*>(args.dout) + row * args.columns + column);
  Eight dgate, dup;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    const float g = gate.at[j], s = sigmoid(g);
    dup.at[j] = dout.at[j] * g * s;
    dgate.at[j] = dout.at[j] * up.at[j] * s * (1.0f + g * (1.0f - s));
  }
  store8(static_cast<Bf16*>(args.dgate) + row * args.dgate_stride + column, dgate);
  store8(static_cast<Bf16*>(args.dup) + row * args.dup_stride + column, dup);
}

// -----------------------------------------------------------------------------------------------
// norm

/// Rows are dealt to groups of threads that hold a whole row in registers, kPieces times 8 numbers
/// each: kGroup a multiple of a warp, so that short rows cost no barrier.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    x += __shfl_xor_sync(0xffffffffu, x, distance);
  }
  return x;
}

/// Sum over the kGroup threads of a row: a warp, or the whole block. All threads of the block call
/// it.
template <int kGroup>
__device__ __forceinline__ float row_sum(float x, float (&shared)[kThreads / 32]) {
  x = warp_sum(x);
  if constexpr (kGroup == 32) {
    return x;
  } else {
    __syncthreads();  // the sums of the row before have been read
    if (threadIdx.x % 32 == 0) {
      shared[threadIdx.x / 32] = x;
    }
    __syncthreads();
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kThreads / 32; ++i) {
      sum += shared[i];
    }
    return sum;
  }
}

template <int kGroup, int kPieces>
__global__ void __launch_bounds__(kThreads) norm_kernel(const __grid_constant__ AddNorm args) {
  __shared__ float shared[kThreads / 32];
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kGroup) + threadIdx.x / kGroup;
  const int lane = threadIdx.x % kGroup;
  const bool present = row < args.rows;  // every thread of a row, so of a warp, says the same
  const int64_t at = (present ? row : 0) * args.columns;
  Eight x[kPieces];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int column = (lane + i * kGroup) * kWidth;
    x[i] = {};
    if (present && column < args.columns) {
      x[i] = load8(static_cast<const Bf16*>(args.x) + at + column);
      if (args.residual != nullptr) {
        const Eight residual = load8(static_cast<const Bf16*>(args.residual) + at + column);
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          x[i].at[j] = rounded(x[i].at[j] + residual.at[j]);
        }
        store8(static_cast<Bf16*>(args.sum) + at + column, x[i]);
      }
    }
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      squares = fmaf(x[i].at[j], x[i].at[j], squares);
    }
  }
  const float inverse =
      rsqrtf(row_sum<kGroup>(squares, shared) / static_cast<float>(args.columns) + args.eps);
  if (!present) {
    return;
  }
  if (lane == 0 && args.inverse_rms != nullptr) {
    args.inverse_rms[row] = inverse;
  }
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int column = (lane + i * kGroup) * kWidth;
    if (column < args.columns) {
      const Eight weight = load8(static_cast<const Bf16*>(args.weight) + column);
      Eight out;
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        out.at[j] = weight.at[j] * rounded(x[i].at[j] * inverse);
      }
      store8(static_cast<Bf16*>(args.out) + at + column, out);
    }
  }
}

/// A block takes every gridDim.x-th set of rows, so that each thread adds up its columns of dweight
/// in registers; the block's sums go to the workspace, [blocks, columns]. Without weights'
/// gradients there are blocks for all rows.
template <int kGroup, int kPieces, bool kWithWeight>
__global__ void __launch_bounds__(kThreads)
    norm_backward_kernel(const __grid_constant__ AddNormBackward args) {
  constexpr int kRows = kThreads / kGroup;
  __shared__ float shared[kThreads / 32];
  const int lane = threadIdx.x % kGroup;
  Eight dweight[kPieces] = {};
  for (int64_t first = int64_t{blockIdx.x} * kRows; first < args.rows;
       first += int64_t{gridDim.x} * kRows) {
    const int64_t row = first + threadIdx.x / kGroup;
    const bool present = row < args.rows;
    const int64_t at = (present ? row : 0) * args.columns;
    const float inverse = present ? args.inverse_rms[row] : 0;
    Eight normed[kPieces], gradient[kPieces];
    float dot = 0;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int column = (lane + i * kGroup) * kWidth;
      normed[i] = gradient[i] = {};
      if (present && column < args.columns) {
        normed[i] = load8(static_cast<const Bf16*>(args.sum) + at + column);
        gradient[i] = load8(static_cast<const Bf16*>(args.dout) + at + column);
        const Eight weight = load8(static_cast<const Bf16*>(args.weight) + column);
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          normed[i].at[j] *= inverse;
          if constexpr (kWithWeight) {
            dweight[i].at[j] = fmaf(gradient[i].at[j], rounded(normed[i].at[j]), dweight[i].at[j]);
          }
          gradient[i].at[j] *= weight.at[j];
          dot = fmaf(gradient[i].at[j], normed[i].at[j], dot);
        }
      }
    }
    dot = row_sum<kGroup>(dot, shared) / static_cast<float>(args.columns);
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int column = (lane + i * kGroup) * kWidth;
      if (present && column < args.columns) {
        const Eight dsum = args.dsum == nullptr
                               ? Eight{}
                               : load8(static_cast<const Bf16*>(args.dsum) + at + column);
        Eight dx;
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          dx.at[j] = dsum.at[j] + inverse * (gradient[i].at[j] - normed[i].at[j] * dot);
        }
        store8(static_cast<Bf16*>(args.dx) + at + column, dx);
      }
    }
  }
  if constexpr (kWithWeight) {
    extern __shared__ float rows[];  // [kRows, columns]
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int column = (lane + i * kGroup) * kWidth;
      if (column < args.columns) {
        float* to = rows + threadIdx.x / kGroup * args.columns + column;
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          to[j] = dweight[i].at[j];
        }
      }
    }
    __syncthreads();
    float* partial = static_cast<float*>(args.workspace) + int64_t{blockIdx.x} * args.columns;
    for (int column = threadIdx.x; column < args.columns; column += kThreads) {
      float sum = 0;
      for (int i = 0; i < kRows; ++i) {
        sum += rows[i * args.columns + column];
      }
      partial[column] = sum;
    }
  }
}

constexpr int kNormBlocks =
    264;  ///< Two for each of an H100's multiprocessors; fixed, so sums are too.

/// Adds up the blocks' sums, always in the same order: 32 columns a block, 8 threads a column.
__global__ void reduce_dweight_kernel(
    const float* partial, int blocks, int columns, bool add, float* dweight) {
  __shared__ float shared[8][32];
  const int column = blockIdx.x * 32 + threadIdx.x;
  float sum = 0;
  for (int i = threadIdx.y; i < blocks && column < columns; i += 8) {
    sum += partial[int64_t{i} * columns + column];
  }
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && column < columns) {
    for (int i = 1; i < 8; ++i) {
      sum += shared[i][threadIdx.x];
    }
    dweight[column] = add ? dweight[column] + sum : sum;
  }
}

int norm_blocks(int64_t rows, int rows_a_block) {
  return static_cast<int>(std::min<int64_t>(kNormBlocks, (rows + rows_a_block - 1) / rows_a_block));
}

/// Calls fn<kGroup, kPieces>() for the smallest group of threads that holds such a row.
template <class Fn>
cudaError_t with_row_layout(int columns, const Fn& fn) {
  if (columns <= 2 * 32 * kWidth) {
    return fn.template operator()<32, 2>();
  }
  if (columns <= 4 * 32 * kWidth) {
    return fn.template operator()<32, 4>();
  }
  if (columns <= kThreads * kWidth) {
    return fn.template operator()<kThreads, 1>();
  }
  if (columns <= 2 * kThreads * kWidth) {
    return fn.template operator()<kThreads, 2>();
  }
  return fn.template operator()<kThreads, 4>();
}

}  // namespace

int rotate_halves(const Rotary& args, CUstream_st* stream) {
  const int64_t threads = int64_t{args.tokens} * args.heads * (args.head_dim / (2 * kWidth));
  if (args.tokens <= 0 || args.heads <= 0 || args.head_dim % (2 * kWidth) != 0 ||
      !countable(threads) || !aligned(args.x) || !aligned(args.out) || !aligned(args.cos) ||
      !aligned(args.sin) ||
      !are_widths(
          args.x_token_stride, args.x_head_stride, args.out_token_stride, args.out_head_stride)) {
    return cudaErrorInvalidValue;
  }
  const auto kernel = args.tables_are_float ? rotary_kernel<float> : rotary_kernel<Bf16>;
  kernel<<<blocks_for(threads), kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

int silu_times(const SiluTimes& args, CUstream_st* stream) {
  const int64_t threads = args.rows * (args.columns / kWidth);
  if (args.rows <= 0 || !countable(threads) || !aligned(args.gate) || !aligned(args.up) ||
      !aligned(args.out) || !are_widths(args.columns, args.gate_stride, args.up_stride)) {
    return cudaErrorInvalidValue;
  }
  silu_kernel<<<blocks_for(threads), kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

int silu_times_backward(const SiluTimesBackward& args, CUstream_st* stream) {
  const int64_t threads = args.rows * (args.columns / kWidth);
  if (args.rows <= 0 || !countable(threads) || !aligned(args.gate) || !aligned(args.up) ||
      !aligned(args.dout) || !aligned(args.dgate) || !aligned(args.dup) ||
      !are_widths(
          args.columns, args.gate_stride, args.up_stride, args.dgate_stride, args.dup_stride)) {
    return cudaErrorInvalidValue;
  }
  silu_backward_kernel<<<blocks_for(threads), kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

int add_rms_norm(const AddNorm& args, CUstream_st* stream) {
  if (args.rows <= 0 || args.columns <= 0 || args.columns > kMaxNormColumns ||
      !are_widths(args.columns) || !aligned(args.x) || !aligned(args.weight) ||
      !aligned(args.out) ||
      (args.residual != nullptr && (!aligned(args.residual) || !aligned(args.sum)))) {
    return cudaErrorInvalidValue;
  }
  return with_row_layout(args.columns, [&]<int kGroup, int kPieces>() {
    constexpr int kRows = kThreads / kGroup;
    const auto blocks = static_cast<unsigned>((args.rows + kRows - 1) / kRows);
    norm_kernel<kGroup, kPieces><<<blocks, kThreads, 0, stream>>>(args);
    return cudaGetLastError();
  });
}

int add_rms_norm_backward(const AddNormBackward& args, CUstream_st* stream) {
  if (args.rows <= 0 || args.columns <= 0 || args.columns > kMaxNormColumns ||
      !are_widths(args.columns) || !aligned(args.sum) || !aligned(args.weight) ||
      !aligned(args.dout) || !aligned(args.dx) || args.inverse_rms == nullptr ||
      (args.dweight != nullptr && !aligned(args.workspace)) ||
      (args.dsum != nullptr && !aligned(args.dsum))) {
    return cudaErrorInvalidValue;
  }
  return with_row_layout(args.columns, [&]<int kGroup, int kPieces>() {
    constexpr int kRows = kThreads / kGroup;
    if (args.dweight == nullptr) {
      const auto all = static_cast<unsigned>((args.rows + kRows - 1) / kRows);
      norm_backward_kernel<kGroup, kPieces, false><<<all, kThreads, 0, stream>>>(args);
      return cudaGetLastError();
    }
    const int blocks = norm_blocks(args.rows, kRows);
    const size_t shared = sizeof(float) * kRows * static_cast<size_t>(args.columns);
    norm_backward_kernel<kGroup, kPieces, true><<<blocks, kThreads, shared, stream>>>(args);
    cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) {
      reduce_dweight_kernel<<<(args.columns + 31) / 32, dim3(32, 8), 0, stream>>>(
          static_cast<const float*>(args.workspace),
          blocks,
          args.columns,
          args.add_to_dweight,
          args.dweight);
      error = cudaGetLastError();
    }
    return error;
  });
}

int64_t add_rms_norm_workspace(int64_t rows, int32_t columns) {
  return static_cast<int64_t>(sizeof(float)) * columns * std::min<int64_t>(rows, kNormBlocks);
}

}  // namespace ssa::cuda
