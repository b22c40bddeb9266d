#include "training/cuda/distillation.h"

#include "training/cuda/softmax_rows.cuh"

namespace ssa::cuda {
namespace {

constexpr int kThreads = 256;

/// Of logits t of the teacher and s of the student: the softmax of t, and its sum of (t - s).
struct Taught {
  Softmax of;
  float cross;
};

__device__ Taught merge(const Taught& a, const Taught& b) {
  const Softmax of = merge(a.of, b.of);
  if (of.largest == -INFINITY) {
    return {of, 0.0F};
  }
  return {
      of,
      a.cross * __expf(a.of.largest - of.largest) + b.cross * __expf(b.of.largest - of.largest)};
}

__device__ void add(Softmax& to, const float (&x)[kWidth]) {
  const float largest = largest_of(x);
  if (largest == -INFINITY) {
    return;
  }
  float sum = 0.0F;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    sum += __expf(x[j] - largest);
  }
  to = merge(to, {largest, sum});
}

__device__ void add(Taught& to, const float (&teacher)[kWidth], const float (&student)[kWidth]) {
  const float largest = largest_of(teacher);
  if (largest == -INFINITY) {
    return;
  }
  Taught here = {{largest, 0.0F}, 0.0F};
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    const float p = __expf(teacher[j] - largest);
    here.of.sum += p;
    here.cross += p > 0.0F ? p * (teacher[j] - student[j]) : 0.0F;  // filled-up columns: inf - inf
  }
  to = merge(to, here);
}

template <class T>
__device__ T from_lane(const T& x, int lane) {
  static_assert(sizeof(T) % sizeof(float) == 0);
  T other = x;
  float* numbers = reinterpret_cast<float*>(&other);
#pragma unroll
  for (size_t i = 0; i < sizeof(T) / sizeof(float); ++i) {
    numbers[i] = __shfl_xor_sync(~0U, numbers[i], lane);
  }
  return other;
}

/// Over all threads of the block; `warps` is the caller's shared memory.
template <class T>
__device__ T merge_block(T mine, T (&warps)[kThreads / 32]) {
  for (int lane = 16; lane > 0; lane /= 2) {
    mine = merge(mine, from_lane(mine, lane));
  }
  if (threadIdx.x % 32 == 0) {
    warps[threadIdx.x / 32] = mine;
  }
  __syncthreads();
  T whole = warps[0];
#pragma unroll
  for (int warp = 1; warp < kThreads / 32; ++warp) {
    whole = merge(whole, warps[warp]);
  }
  return whole;
}

/// A block a row.
__global__ void __launch_bounds__(kThreads)
    distillation_rows(const __grid_constant__ Distillation args) {
  const auto n = static_cast<int>(args.columns / kWidth),
             n_taught = static_cast<int>(args.teacher_columns / kWidth);
  uint4* student = static_cast<uint4*>(args.student) + int64_t{blockIdx.x} * n;
  const uint4* teacher = static_cast<const uint4*>(args.teacher) + int64_t{blockIdx.x} * n_taught;
  Softmax learns = {-INFINITY, 0.0F};
  Taught teaches = {{-INFINITY, 0.0F}, 0.0F};
  for (int i = threadIdx.x; i < n; i += kThreads) {
    float s[kWidth], t[kWidth];
    unpack(student[i], s);
    add(learns, s);
    if (i < n_taught) {
      unpack(teacher[i], t);
      add(teaches, t, s);
    }
  }
  __shared__ Softmax learning_warps[kThreads / 32];
  __shared__ Taught teaching_warps[kThreads / 32];
  learns = merge_block(learns, learning_warps);
  teaches = merge_block(teaches, teaching_warps);
  const float lse = learns.largest + logf(learns.sum),
              taught_lse = teaches.of.largest + logf(teaches.of.sum);
  if (threadIdx.x == 0) {
    args.losses[blockIdx.x] = teaches.cross / teaches.of.sum - taught_lse + lse;
  }
  for (int i = threadIdx.x; i < n; i += kThreads) {
    float s[kWidth], t[kWidth];
    unpack(student[i], s);
    if (i < n_taught) {
      unpack(teacher[i], t);
    }
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      s[j] = __expf(s[j] - lse) - (i < n_taught ? __expf(t[j] - taught_lse) : 0.0F);
    }
    student[i] = pack(s);
  }
}

}  // namespace

int distillation(const Distillation& args, CUstream_st* stream) {
  if (args.rows == 0) {
    return cudaSuccess;
  }
  if (args.columns % kWidth != 0 || args.teacher_columns % kWidth != 0 ||
      args.teacher_columns > args.columns) {
    return cudaErrorInvalidValue;
  }
  distillation_rows<<<static_cast<unsigned>(args.rows), kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace ssa::cuda
