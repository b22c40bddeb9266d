#include "attention/cuda/query_tile.cuh"

namespace ssa::cuda {
namespace {

/// Online softmax of 16 rows: sums of values weighted with exp2(score - top).
template <int kDim>
struct SoftmaxSums {
  float sum[kDim / 8][4];
  float top[2], weight[2];  ///< weight: this lane's share.

  __device__ SoftmaxSums() : sum{}, top{-INFINITY, -INFINITY}, weight{} {}

  __device__ __forceinline__ void add(const RowPieces<kDim>& q,
                                      const KeyGroup& group,
                                      const WarpQueries& queries,
                                      const KeyWindow<kDim>& window,
                                      float scale_log2,
                                      const Lane& lane) {
    const int blocks = group.blocks();
    float s[kGroup][2][4];
    float highest[2] = {top[0], top[1]};
#pragma unroll
    for (int b = 0; b < kGroup; ++b) {
      if (b < blocks) {
        const KeyBlock block = group.block(b);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          s[b][i / 4][i % 4] = 0;
        }
        row_products<kDim>(q, piece_address<kDim>(window.k, block.row, lane), s[b]);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const int r = i % 4 / 2, column = i / 4 * 8 + lane.quad * 2 + i % 2;
          float& score = s[b][i / 4][i % 4];
          score = block.seen(queries, r, column) ? score * scale_log2 : -INFINITY;
          highest[r] = fmaxf(highest[r], score);
        }
      }
    }
    float base[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      highest[r] = quad_max(highest[r]);
      base[r] = highest[r] == -INFINITY ? 0 : highest[r];
      const float shrink = exp2f(top[r] - base[r]);
      top[r] = highest[r];
      weight[r] *= shrink;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        sum[n][2 * r] *= shrink;
        sum[n][2 * r + 1] *= shrink;
      }
    }
#pragma unroll
    for (int b = 0; b < kGroup; ++b) {
      if (b < blocks) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const int r = i % 4 / 2;
          float& p = s[b][i / 4][i % 4];
          p = exp2f(p - base[r]);
          weight[r] += p;
        }
        add_weighted_rows<kDim>(
            s[b], matrix_address<kDim>(window.v, group.block(b).row, lane), sum);
      }
    }
  }
};

/// Merges with the far part and writes the warp's rows of one head. All lanes call it.
template <int kDim>
__device__ __forceinline__ void write_output(const WindowForward& args,
                                             SoftmaxSums<kDim>& sums,
                                             const Tile& tile,
                                             const WarpQueries& queries,
                                             int head,
                                             const Lane& lane) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int64_t token = queries.token[r];
    const float weight = quad_sum(sums.weight[r]);
    float lse = (sums.top[r] + log2f(weight)) * kLn2;
    float near_factor = 1.0f / weight, far_factor = 0;
    if (args.far_out.data != nullptr) {
      const float far = value_of(args.far_lse, token, head);
      if (fabsf(far) < INFINITY) {
        const float top = fmaxf(far, lse);
        const float near_share = exp2f((lse - top) * kLog2e),
                    far_share = exp2f((far - top) * kLog2e);
        const float all = near_share + far_share;
        near_factor *= near_share / all;
        far_factor = far_share / all;
        lse = top + log2f(all) * kLn2;
      }
    }
    const Bf16* far_row =
        args.far_out.data == nullptr ? nullptr : row_of(args.far_out, token, head) + 8 * lane.quad;
    Bf16* out_row = static_cast<Bf16*>(args.out.data) + token * args.out.token_stride +
                    head * args.out.head_stride + 8 * lane.quad;
#pragma unroll
    for (int j = 0; j < kDim / 32; ++j) {
      uint32_t v[4] = {};
      if (far_row != nullptr) {  // every lane: the exchange below needs all of them
        const uint4 far =
            far_factor == 0 ? uint4{} : *reinterpret_cast<const uint4*>(far_row + 32 * j);
        v[0] = far.x, v[1] = far.y, v[2] = far.z, v[3] = far.w;
        transpose_quad(v, lane.quad);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* near = sums.sum[4 * j + i] + 2 * r;
        v[i] = pack(near[0] * near_factor + low_half(v[i]) * far_factor,
                    near[1] * near_factor + high_half(v[i]) * far_factor);
      }
      transpose_quad(v, lane.quad);
      if (WarpQueries::present(tile, r, lane)) {
        *reinterpret_cast<uint4*>(out_row + 32 * j) = uint4{v[0], v[1], v[2], v[3]};
      }
    }
    if (WarpQueries::present(tile, r, lane) && lane.quad == 0) {
      value_of(args.lse, token, head) = lse;
    }
  }
}

template <int kDim>
__global__ void __launch_bounds__(kQueryThreads, kDim == 64 ? 4 : 3)
    forward_kernel(const __grid_constant__ WindowForward args) {
  extern __shared__ __align__(128) unsigned char shared[];
  const WindowShape& shape = args.shape;
  const int kv_head = blockIdx.x % shape.kv_heads, group = shape.query_heads / shape.kv_heads;
  Tile tile;
  if (!find_tile(shape, blockIdx.x / shape.kv_heads, tile)) {
    return;
  }
  const Lane lane;
  prefetch_rows<kDim>(args.q, tile, kv_head * group, lane);
  KeyWindow<kDim> window(shape, tile, args.k, args.v, kv_head, shared);
  const WarpQueries queries(shape, tile, lane);
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    if (args.far_out.data != nullptr) {
      prefetch_rows<kDim>(args.far_out, tile, head, lane);
    }
    if (head + 1 < (kv_head + 1) * group) {
      prefetch_rows<kDim>(args.q, tile, head + 1, lane);
    }
    RowPieces<kDim> q;
    q.load(
        row_of(args.q, queries.token[0], head), row_of(args.q, queries.token[1], head), lane.quad);
    SoftmaxSums<kDim> sums;
    window.visit(queries, [&](const KeyGroup& keys) {
      sums.add(q, keys, queries, window, shape.scale * kLog2e, lane);
    });
    write_output<kDim>(args, sums, tile, queries, head, lane);
  }
}

}  // namespace

int window_forward(const WindowForward& args, CUstream_st* stream) {
  const bool far = args.far_out.data != nullptr;
  if (!valid(args.shape) || !aligned(args.q) || !aligned(args.k) || !aligned(args.v) ||
      !aligned(args.out) || args.lse.data == nullptr ||
      (far && (!aligned(args.far_out) || args.far_lse.data == nullptr))) {
    return cudaErrorInvalidValue;
  }
  const auto kernel = args.shape.head_dim == 64 ? forward_kernel<64> : forward_kernel<128>;
  return launch<WindowForward>(
      kernel, args, kQueryThreads, key_window_bytes(args.shape.head_dim), stream);
}

}  // namespace ssa::cuda
