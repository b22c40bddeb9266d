#include "training/cuda/cross_entropy.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>

#include "training/cuda/softmax_rows.cuh"

namespace ssa::cuda {
namespace {

constexpr int kThreads = 256;

/// A block a row.
__global__ void __launch_bounds__(kThreads)
    cross_entropy_rows(uint4* logits, const int64_t* targets, float* losses, int64_t columns) {
  uint4* row = logits + blockIdx.x * (columns / kWidth);
  const auto n = static_cast<int>(columns / kWidth);
  Softmax mine = {-INFINITY, 0.0F};
  for (int i = threadIdx.x; i < n; i += kThreads) {
    float x[kWidth];
    unpack(row[i], x);
    const float largest = largest_of(x);
    if (largest == -INFINITY) {
      continue;
    }
    float sum = 0.0F;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      sum += __expf(x[j] - largest);
    }
    mine = merge(mine, {largest, sum});
  }
  for (int lane = 16; lane > 0; lane /= 2) {
    mine = merge(mine,
                 {__shfl_xor_sync(~0U, mine.largest, lane), __shfl_xor_sync(~0U, mine.sum, lane)});
  }
  __shared__ Softmax warps[kThreads / 32];
  if (threadIdx.x % 32 == 0) {
    warps[threadIdx.x / 32] = mine;
  }
  const int target = static_cast<int>(targets[blockIdx.x]);
  const bool is_column = target >= 0 && target < columns;  // else the loss says so: NaN
  const float wanted =
      is_column ? __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(row)[target]) : NAN;
  __syncthreads();
  Softmax whole = warps[0];
#pragma unroll
  for (int warp = 1; warp < kThreads / 32; ++warp) {
    whole = merge(whole, warps[warp]);
  }
  const float lse = whole.largest + logf(whole.sum);
  if (threadIdx.x == 0) {
    losses[blockIdx.x] = lse - wanted;
  }
  for (int i = threadIdx.x; i < n; i += kThreads) {
    float x[kWidth];
    unpack(row[i], x);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      x[j] = __expf(x[j] - lse) - (i * kWidth + j == target ? 1.0F : 0.0F);
    }
    row[i] = pack(x);
  }
}

}  // namespace

int cross_entropy(void* logits,
                  const int64_t* targets,
                  float* losses,
                  int64_t rows,
                  int64_t columns,
                  CUstream_st* stream) {
  if (rows == 0) {
    return 0;
  }
  if (columns % kWidth != 0) {
    return cudaErrorInvalidValue;
  }
  cross_entropy_rows<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(
      static_cast<uint4*>(logits), targets, losses, columns);
  return cudaGetLastError();
}

}  // namespace ssa::cuda
