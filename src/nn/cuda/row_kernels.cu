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

}  // namespace ssa::cuda
