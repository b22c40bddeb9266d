/// Window attention and its gradients written to be read: a warp a row, in f32, without tiles.
/// Included once by the program that checks the kernels.
#pragma once

#include <cmath>

#include "attention/cuda/window_attention.h"
#include "bench/cuda_check.h"

namespace {

using namespace ssa::cuda;

__device__ const Bf16* at(const HeadRows& rows, int64_t t, int h) {
  return static_cast<const Bf16*>(rows.data) + t * rows.token_stride + h * rows.head_stride;
}

__device__ float dot(const Bf16* a, const Bf16* b, int dim) {
  float sum = 0;
  for (int i = threadIdx.x; i < dim; i += 32) {
    sum += __bfloat162float(a[i]) * __bfloat162float(b[i]);
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  }
  return sum;
}

__device__ int sequence_of(const WindowShape& shape, int t) {
  int s = 0;
  while (shape.offsets[s + 1] <= t) {
    ++s;
  }
  return s;
}

template <class Fn>
__device__ void for_each_key(const WindowShape& shape, int t, const Fn& fn) {
  const int start = shape.offsets[sequence_of(shape, t)], begin = shape.begin[t];
  for (int k = start; k < min(start + shape.sinks, begin); ++k) {
    fn(k);
  }
  for (int k = begin; k <= t; ++k) {
    fn(k);
  }
}

/// A warp a query and head. out: f32, [tokens, query_heads, dim]; lse [tokens, query_heads].
__global__ void reference_forward(WindowForward args, float* out, float* lse) {
  const WindowShape& shape = args.shape;
  const int t = blockIdx.x, h = blockIdx.y, dim = shape.head_dim;
  const int kv = h / (shape.query_heads / shape.kv_heads);
  const Bf16* q = at(args.q, t, h);
  float top = -INFINITY, weight = 0;
  for_each_key(shape, t, [&](int k) {
    const float s = dot(q, at(args.k, k, kv), dim) * shape.scale;
    const float higher = fmaxf(top, s);
    weight = weight * expf(top - higher) + expf(s - higher);
    top = higher;
  });
  float merged = top + logf(weight), far_factor = 0;
  if (args.far_out.data != nullptr) {
    const float far =
        args.far_lse.data[t * args.far_lse.token_stride + h * args.far_lse.head_stride];
    if (isfinite(far)) {
      const float higher = fmaxf(far, merged);
      merged = higher + logf(expf(far - higher) + expf(merged - higher));
      far_factor = expf(far - merged);
    }
  }
  float sum[4] = {};
  for_each_key(shape, t, [&](int k) {
    const float p = expf(dot(q, at(args.k, k, kv), dim) * shape.scale - merged);
    for (int i = 0; i < dim / 32; ++i) {
      sum[i] += p * __bfloat162float(at(args.v, k, kv)[threadIdx.x + 32 * i]);
    }
  });
  const int64_t row = int64_t{t} * shape.query_heads + h;
  for (int i = 0; i < dim / 32; ++i) {
    const int column = threadIdx.x + 32 * i;
    const float far =
        far_factor == 0 ? 0 : far_factor * __bfloat162float(at(args.far_out, t, h)[column]);
    out[row * dim + column] = sum[i] + far;
  }
  if (threadIdx.x == 0) {
    lse[row] = merged;
  }
}

__device__ float lse_of(const WindowBackward& args, int t, int h) {
  return args.lse.data[t * args.lse.token_stride + h * args.lse.head_stride];
}

__global__ void reference_dq(WindowBackward args, float* dq) {
  const WindowShape& shape = args.shape;
  const int t = blockIdx.x, h = blockIdx.y, dim = shape.head_dim;
  const int kv = h / (shape.query_heads / shape.kv_heads);
  const Bf16 *q = at(args.q, t, h), *dout = at(args.dout, t, h);
  const float delta = dot(at(args.out, t, h), dout, dim), lse = lse_of(args, t, h);
  float sum[4] = {};
  for_each_key(shape, t, [&](int k) {
    const float p = expf(dot(q, at(args.k, k, kv), dim) * shape.scale - lse);
    const float ds = p * (dot(dout, at(args.v, k, kv), dim) - delta) * shape.scale;
    for (int i = 0; i < dim / 32; ++i) {
      sum[i] += ds * __bfloat162float(at(args.k, k, kv)[threadIdx.x + 32 * i]);
    }
  });
  for (int i = 0; i < dim / 32; ++i) {
    const int column = threadIdx.x + 32 * i;
    float far = 0;
    if (args.far_dq.data != nullptr) {
      const int64_t place = t * args.far_dq.token_stride + h * args.far_dq.head_stride + column;
      far = args.far_dq_type == RowType::kFloat32
                ? static_cast<const float*>(args.far_dq.data)[place]
                : __bfloat162float(static_cast<const Bf16*>(args.far_dq.data)[place]);
    }
    dq[(int64_t{t} * shape.query_heads + h) * dim + column] = sum[i] + far;
  }
}

__global__ void reference_dkv(WindowBackward args, float* dk, float* dv) {
  const WindowShape& shape = args.shape;
  const int key = blockIdx.x, kv = blockIdx.y, dim = shape.head_dim;
  const int group = shape.query_heads / shape.kv_heads, s = sequence_of(shape, key);
  const bool is_sink = key < shape.offsets[s] + shape.sinks;
  float dk_sum[4] = {}, dv_sum[4] = {};
  for (int t = key; t < shape.offsets[s + 1]; ++t) {
    if (!is_sink && shape.begin[t] > key) {
      break;
    }
    for (int h = kv * group; h < (kv + 1) * group; ++h) {
      const Bf16 *q = at(args.q, t, h), *dout = at(args.dout, t, h);
      const float delta = dot(at(args.out, t, h), dout, dim);
      const float p = expf(dot(q, at(args.k, key, kv), dim) * shape.scale - lse_of(args, t, h));
      const float ds = p * (dot(dout, at(args.v, key, kv), dim) - delta) * shape.scale;
      for (int i = 0; i < dim / 32; ++i) {
        dk_sum[i] += ds * __bfloat162float(q[threadIdx.x + 32 * i]);
        dv_sum[i] += p * __bfloat162float(dout[threadIdx.x + 32 * i]);
      }
    }
  }
  for (int i = 0; i < dim / 32; ++i) {
    const int64_t to = (int64_t{key} * shape.kv_heads + kv) * dim + threadIdx.x + 32 * i;
    dk[to] = dk_sum[i];
    dv[to] = dv_sum[i];
  }
}

}  // namespace
