#include "attention/cuda/query_tile.cuh"

namespace ssa::cuda {
namespace {

constexpr int kQueryTile = 32;  ///< Queries a stage of the key-owned kernel.
constexpr int kStages = 3;
constexpr int kOwnedRows = kTile + kMaxSinks;

// dq: a block owns queries.

struct RowPair {
  float value[2];
};

/// Writes (with `far_dq` added) the warp's rows of one head of dq. All lanes call it.
template <int kDim>
__device__ __forceinline__ void write_query_gradient(const WindowBackward& args,
                                                     float (&sum)[kDim / 8][4],
                                                     const Tile& tile,
                                                     const WarpQueries& queries,
                                                     int head,
                                                     const Lane& lane) {
  const float scale = args.shape.scale;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int64_t token = queries.token[r];
    const int64_t to = token * args.dq.token_stride + head * args.dq.head_stride;
    const int64_t from = token * args.far_dq.token_stride + head * args.far_dq.head_stride;
#pragma unroll
    for (int j = 0; j < kDim / 32; ++j) {
      float2 far[4] = {};
      if (args.far_dq.data != nullptr && args.far_dq_type == RowType::kBfloat16) {
        const Bf16* row =
            static_cast<const Bf16*>(args.far_dq.data) + from + 32 * j + 8 * lane.quad;
        const uint4 piece = *reinterpret_cast<const uint4*>(row);
        uint32_t v[4] = {piece.x, piece.y, piece.z, piece.w};
        transpose_quad(v, lane.quad);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          far[i] = {low_half(v[i]), high_half(v[i])};
        }
      } else if (args.far_dq.data != nullptr) {
        const float* row =
            static_cast<const float*>(args.far_dq.data) + from + 32 * j + 2 * lane.quad;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          far[i] = *reinterpret_cast<const float2*>(row + 8 * i);
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* near = sum[4 * j + i] + 2 * r;
        far[i] = {far[i].x + near[0] * scale, far[i].y + near[1] * scale};
      }
      if (args.dq_type == RowType::kBfloat16) {
        uint32_t v[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          v[i] = pack(far[i].x, far[i].y);
        }
        transpose_quad(v, lane.quad);
        if (WarpQueries::present(tile, r, lane)) {
          Bf16* row = static_cast<Bf16*>(args.dq.data) + to + 32 * j + 8 * lane.quad;
          *reinterpret_cast<uint4*>(row) = uint4{v[0], v[1], v[2], v[3]};
        }
      } else if (WarpQueries::present(tile, r, lane)) {
        float* row = static_cast<float*>(args.dq.data) + to + 32 * j + 2 * lane.quad;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          *reinterpret_cast<float2*>(row + 8 * i) = far[i];
        }
      }
    }
  }
}

__device__ __forceinline__ float dot8(const uint4& a, const uint4& b) {
  const uint32_t x[4] = {a.x, a.y, a.z, a.w}, y[4] = {b.x, b.y, b.z, b.w};
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sum = fmaf(low_half(x[i]), low_half(y[i]), sum);
    sum = fmaf(high_half(x[i]), high_half(y[i]), sum);
  }
  return sum;
}

/// Sum of out * dout of a lane's two rows.
template <int kDim>
__device__ __forceinline__ RowPair row_deltas(const WindowBackward& args,
                                              const RowPieces<kDim>& dout,
                                              const WarpQueries& queries,
                                              int head,
                                              const Lane& lane) {
  RowPair delta = {};
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const Bf16* out = row_of(args.out, queries.token[r], head) + 8 * lane.quad;
#pragma unroll
    for (int j = 0; j < kDim / 32; ++j) {
      delta.value[r] += dot8(dout.piece[r][j], __ldg(reinterpret_cast<const uint4*>(out + 32 * j)));
    }
    delta.value[r] = quad_sum(delta.value[r]);
  }
  return delta;
}

/// Workspace: what the query-owned kernel leaves for the others, [query_heads, tokens] ...
__host__ __device__ float* deltas_of(const WindowBackward& args) {
  return static_cast<float*>(args.workspace);
}

/// ... and partial sums of the sinks' gradients, [slots, kv_heads, dk and dv, sinks, head_dim].
__host__ __device__ float* partials_of(const WindowBackward& args) {
  const int64_t deltas = int64_t{args.shape.query_heads} * args.shape.tokens;
  return deltas_of(args) + (deltas + 3) / 4 * 4;
}

template <int kDim>
__global__ void __launch_bounds__(kQueryThreads, kDim == 64 ? 3 : 2)
    backward_queries_kernel(const __grid_constant__ WindowBackward args) {
  extern __shared__ __align__(128) unsigned char shared[];
  const WindowShape& shape = args.shape;
  const int kv_head = blockIdx.x % shape.kv_heads, group = shape.query_heads / shape.kv_heads;
  Tile tile;
  if (!find_tile(shape, blockIdx.x / shape.kv_heads, tile)) {
    return;
  }
  const Lane lane;
  KeyWindow<kDim> window(shape, tile, args.k, args.v, kv_head, shared);
  const WarpQueries queries(shape, tile, lane);
  const float scale_log2 = shape.scale * kLog2e;
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    if (head + 1 < (kv_head + 1) * group) {
      prefetch_rows<kDim>(args.q, tile, head + 1, lane);
      prefetch_rows<kDim>(args.dout, tile, head + 1, lane);
      prefetch_rows<kDim>(args.out, tile, head + 1, lane);
    }
    RowPieces<kDim> q, dout;
    q.load(
        row_of(args.q, queries.token[0], head), row_of(args.q, queries.token[1], head), lane.quad);
    dout.load(row_of(args.dout, queries.token[0], head),
              row_of(args.dout, queries.token[1], head),
              lane.quad);
    const RowPair delta = row_deltas<kDim>(args, dout, queries, head, lane);
    float lse_log2[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      lse_log2[r] = value_of(args.lse, queries.token[r], head) * kLog2e;
      if (WarpQueries::present(tile, r, lane) && lane.quad == 0) {
        deltas_of(args)[int64_t{head} * shape.tokens + queries.token[r]] = delta.value[r];
      }
    }
    float sum[kDim / 8][4] = {};
    window.visit(queries, [&](const KeyGroup& keys) {
#pragma unroll 1
      for (int b = 0; b < keys.blocks(); ++b) {
        const KeyBlock block = keys.block(b);
        float s[2][4] = {}, dp[2][4] = {};
        row_products<kDim>(q, piece_address<kDim>(window.k, block.row, lane), s);
        row_products<kDim>(dout, piece_address<kDim>(window.v, block.row, lane), dp);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const int r = i % 4 / 2, column = i / 4 * 8 + lane.quad * 2 + i % 2;
          float& x = s[i / 4][i % 4];
          const bool seen = block.seen(queries, r, column);
          const float p = exp2f(x * scale_log2 - lse_log2[r]);
          x = seen ? p * (dp[i / 4][i % 4] - delta.value[r]) : 0.0f;
        }
        add_weighted_rows<kDim>(s, matrix_address<kDim>(window.k, block.row, lane), sum);
      }
    });
    write_query_gradient<kDim>(args, sum, tile, queries, head, lane);
  }
}

// dk and dv: a block owns keys.

/// 32 queries of one head on their way through shared memory, and what is known of each.
template <int kDim>
struct QueryStage {
  Bf16 q[kQueryTile * kDim], dout[kQueryTile * kDim];
  float lse[kQueryTile], delta[kQueryTile];
  int begin[kQueryTile];  ///< INT_MAX: no query.
};

template <int kDim>
struct KeyOwnedShared {
  Bf16 k[kOwnedRows * kDim], v[kOwnedRows * kDim];  ///< 64 keys, then the sinks.
  QueryStage<kDim> stage[kStages];
};

/// Stages of queries that see one of the tile's keys in their windows: begin never falls, so the
/// first that sees none ends the search. All lanes of a warp call it.
__device__ __forceinline__ int count_stages(const WindowShape& shape, const Tile& tile, int lane) {
  for (int stages = 0;; stages += 32) {
    const int64_t row = tile.row + int64_t{kQueryTile} * (stages + lane);
    const bool sees = row < tile.sequence_end && shape.begin[row] < tile.end;
    const unsigned all = __ballot_sync(0xffffffffu, sees);
    if (all != 0xffffffffu) {
      return stages + __ffs(static_cast<int>(~all)) - 1;
    }
  }
}

template <int kDim>
__device__ __forceinline__ void copy_queries(
    const WindowBackward& args, const Tile& tile, int row, int head, QueryStage<kDim>& stage) {
  const int present = min(kQueryTile, tile.sequence_end - row);
  copy_rows<kDim>(shared_address(stage.q),
                  0,
                  row_of(args.q, row, head),
                  args.q.token_stride,
                  kQueryTile,
                  present);
  copy_rows<kDim>(shared_address(stage.dout),
                  0,
                  row_of(args.dout, row, head),
                  args.dout.token_stride,
                  kQueryTile,
                  present);
  const int i = threadIdx.x % 32, what = threadIdx.x / 32;
  if (i >= present) {
    if (what == 0) {
      stage.lse[i] = stage.delta[i] = 0;
      stage.begin[i] = INT_MAX;
    }
  } else if (what == 0) {
    copy4_async(shared_address(&stage.lse[i]), &value_of(args.lse, row + i, head));
  } else if (what == 1) {
    copy4_async(shared_address(&stage.delta[i]),
                deltas_of(args) + int64_t{head} * args.shape.tokens + row + i);
  } else if (what == 2) {
    copy4_async(shared_address(&stage.begin[i]), args.shape.begin + row + i);
  }
}

/// The 16 keys of a warp: its rows of dk and dv. The fifth warp has the sinks.
template <int kDim>
struct KeyGradients {
  float dk[kDim / 8][4], dv[kDim / 8][4];
  int first_key;
  bool sinks;
  int keys;     ///< Present: at most 16.
  int row_end;  ///< For sinks: queries before it are this block's to count.

  __device__ __forceinline__ bool sees(int begin, int query, int key) const {
    return sinks ? key < begin && query < row_end : key >= begin && key <= query;
  }

  /// Adds what 16 queries, `at` rows into the stage, give.
  __device__ __forceinline__ void add(const QueryStage<kDim>& stage,
                                      int at,
                                      int row,
                                      uint32_t k,
                                      uint32_t v,
                                      float scale_log2,
                                      const Lane& lane) {
    const uint32_t q = shared_address(stage.q), dout = shared_address(stage.dout);
    float p[2][4] = {}, ds[2][4] = {};
    row_products<kDim>(k, piece_address<kDim>(q, at, lane), p);
    row_products<kDim>(v, piece_address<kDim>(dout, at, lane), ds);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int column = c / 2 * 8 + lane.quad * 2 + c % 2, query = at + column;
      const float lse_log2 = stage.lse[query] * kLog2e, delta = stage.delta[query];
      const int begin = stage.begin[query];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float &weight = p[c / 2][2 * r + c % 2], &gradient = ds[c / 2][2 * r + c % 2];
        const int place = lane.row + 8 * r;
        const bool seen =
            place < keys && begin != INT_MAX && sees(begin, row + column, first_key + place);
        weight = seen ? exp2f(weight * scale_log2 - lse_log2) : 0.0f;
        gradient = weight * (gradient - delta);
      }
    }
    add_weighted_rows<kDim>(p, matrix_address<kDim>(dout, at, lane), dv);
    add_weighted_rows<kDim>(ds, matrix_address<kDim>(q, at, lane), dk);
  }

  /// Is there anything to add? `begin` of the 16 queries from `row` never falls.
  __device__ __forceinline__ bool meets(const int* begin, int row) const {
    if (sinks) {
      return row < row_end && begin[kBlock - 1] > first_key;
    }
    return keys > 0 && row + kBlock > first_key && begin[0] < first_key + keys;
  }
};

/// One lane's two neighbouring numbers of 8 columns, or pieces of bf16 where the whole quad can
/// write 16 bytes a lane.
template <int kDim>
__device__ __forceinline__ void write_key_gradient(const float (&sum)[kDim / 8][4],
                                                   float scale,
                                                   const MutableHeadRows& to,
                                                   RowType type,
                                                   int first_key,
                                                   int keys,
                                                   int head,
                                                   const Lane& lane) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int place = lane.row + 8 * r;
    const int64_t row = int64_t{first_key + place} * to.token_stride + head * to.head_stride;
#pragma unroll
    for (int j = 0; j < kDim / 32; ++j) {
      if (type == RowType::kBfloat16) {
        uint32_t v[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          v[i] = pack(sum[4 * j + i][2 * r] * scale, sum[4 * j + i][2 * r + 1] * scale);
        }
        transpose_quad(v, lane.quad);
        if (place < keys) {
          Bf16* out = static_cast<Bf16*>(to.data) + row + 32 * j + 8 * lane.quad;
          *reinterpret_cast<uint4*>(out) = uint4{v[0], v[1], v[2], v[3]};
        }
      } else if (place < keys) {
        float* out = static_cast<float*>(to.data) + row + 32 * j + 2 * lane.quad;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          *reinterpret_cast<float2*>(out + 8 * i) = {sum[4 * j + i][2 * r] * scale,
                                                     sum[4 * j + i][2 * r + 1] * scale};
        }
      }
    }
  }
}

template <int kDim>
__global__ void __launch_bounds__(kQueryThreads + 32, 2)
    backward_keys_kernel(const __grid_constant__ WindowBackward args) {
  extern __shared__ __align__(128) unsigned char bytes[];
  KeyOwnedShared<kDim>& shared = *reinterpret_cast<KeyOwnedShared<kDim>*>(bytes);
  const WindowShape& shape = args.shape;
  const int slot = blockIdx.x / shape.kv_heads, kv_head = blockIdx.x % shape.kv_heads;
  const int group = shape.query_heads / shape.kv_heads;
  Tile tile;
  if (!find_tile(shape, slot, tile)) {
    return;
  }
  const Lane lane;
  const int warp = threadIdx.x / 32, stages = count_stages(shape, tile, lane.id);
  const int total = stages * group;
  const uint32_t k = shared_address(shared.k), v = shared_address(shared.v);
  const int owned = tile.end - tile.row;
  copy_rows<kDim>(k, 0, row_of(args.k, tile.row, kv_head), args.k.token_stride, kTile, owned);
  copy_rows<kDim>(v, 0, row_of(args.v, tile.row, kv_head), args.v.token_stride, kTile, owned);
  if (shape.sinks > 0) {
    copy_sinks<kDim>(k, kTile, args.k, shape, tile, kv_head);
    copy_sinks<kDim>(v, kTile, args.v, shape, tile, kv_head);
  }
  const auto copy_stage = [&](int i) {
    if (i < total) {
      copy_queries<kDim>(args,
                         tile,
                         tile.row + kQueryTile * (i % stages),
                         kv_head * group + i / stages,
                         shared.stage[i % kStages]);
    }
    commit_copies();  // an empty group where there is none, so that waits count alike
  };
  KeyGradients<kDim> mine = {};
  mine.sinks = warp * kBlock >= kTile;
  mine.first_key = mine.sinks ? tile.sequence_begin : tile.row + kBlock * warp;
  mine.keys = mine.sinks ? shape.sinks : min(kBlock, tile.end - mine.first_key);
  mine.row_end = tile.end;
  const uint32_t my_k = piece_address<kDim>(k, kBlock * warp, lane);
  const uint32_t my_v = piece_address<kDim>(v, kBlock * warp, lane);
  for (int i = 0; i < kStages - 1; ++i) {
    copy_stage(i);
  }
  for (int i = 0; i < total; ++i) {
    wait_copies<kStages - 2>();
    __syncthreads();  // stage i is there, and everybody has left stage i - 1
    copy_stage(i + kStages - 1);
    const QueryStage<kDim>& stage = shared.stage[i % kStages];
#pragma unroll 1
    for (int at = 0; at < kQueryTile; at += kBlock) {
      const int row = tile.row + kQueryTile * (i % stages) + at;
      if (mine.meets(stage.begin + at, row)) {
        mine.add(stage, at, row, my_k, my_v, shape.scale * kLog2e, lane);
      }
    }
  }
  if (!mine.sinks) {
    write_key_gradient<kDim>(
        mine.dk, shape.scale, args.dk, args.dkv_type, mine.first_key, mine.keys, kv_head, lane);
    write_key_gradient<kDim>(
        mine.dv, 1, args.dv, args.dkv_type, mine.first_key, mine.keys, kv_head, lane);
    return;
  }
  const int64_t per_slot = int64_t{shape.sinks} * kDim;
  float* partial = partials_of(args) + int64_t{blockIdx.x} * 2 * per_slot;
  write_key_gradient<kDim>(
      mine.dk, shape.scale, {partial, kDim, 0}, RowType::kFloat32, 0, mine.keys, 0, lane);
  write_key_gradient<kDim>(
      mine.dv, 1, {partial + per_slot, kDim, 0}, RowType::kFloat32, 0, mine.keys, 0, lane);
}

constexpr int kReducers = 4;

/// Adds the partial sums of one sink, KV head and dk or dv, in the order of tiles, to what its own
/// window's queries gave. Thread (i, j): number i of head_dim, every 4th tile.
__global__ void reduce_sinks_kernel(const __grid_constant__ WindowBackward args) {
  __shared__ float shared[kReducers][128];
  const WindowShape& shape = args.shape;
  const int sink = blockIdx.x % shape.sinks, kv_head = blockIdx.x / shape.sinks;
  const int sequence = blockIdx.y, part = blockIdx.z;
  const int begin = shape.offsets[sequence], end = shape.offsets[sequence + 1];
  if (begin + sink >= end) {
    return;
  }
  const int first_slot = begin / kTile + sequence, tiles = (end - begin + kTile - 1) / kTile;
  const int dim = shape.head_dim;
  const float* from = partials_of(args) + threadIdx.x;
  float sum = 0;
  for (int i = threadIdx.y; i < tiles; i += kReducers) {
    const int64_t block = int64_t{first_slot + i} * shape.kv_heads + kv_head;
    sum += from[((block * 2 + part) * shape.sinks + sink) * dim];
  }
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0) {
    return;
  }
  for (int i = 1; i < kReducers; ++i) {
    sum += shared[i][threadIdx.x];
  }
  const MutableHeadRows& to = part == 0 ? args.dk : args.dv;
  const int64_t at =
      int64_t{begin + sink} * to.token_stride + kv_head * to.head_stride + threadIdx.x;
  if (args.dkv_type == RowType::kFloat32) {
    static_cast<float*>(to.data)[at] += sum;
  } else {
    Bf16& x = static_cast<Bf16*>(to.data)[at];
    x = __float2bfloat16(__bfloat162float(x) + sum);
  }
}

template <int kDim>
cudaError_t launch_backward(const WindowBackward& args, cudaStream_t stream) {
  const WindowShape& shape = args.shape;
  cudaError_t error = launch<WindowBackward>(
      backward_queries_kernel<kDim>, args, kQueryThreads, key_window_bytes(kDim), stream);
  if (error == cudaSuccess) {
    const int threads = kQueryThreads + (shape.sinks > 0 ? 32 : 0);
    error = launch<WindowBackward>(
        backward_keys_kernel<kDim>, args, threads, sizeof(KeyOwnedShared<kDim>), stream);
  }
  if (error == cudaSuccess && shape.sinks > 0) {
    const dim3 blocks(shape.sinks * shape.kv_heads, shape.sequences, 2);
    reduce_sinks_kernel<<<blocks, dim3(kDim, kReducers), 0, stream>>>(args);
    error = cudaGetLastError();
  }
  return error;
}

}  // namespace

int window_backward(const WindowBackward& args, CUstream_st* stream) {
  const bool far = args.far_dq.data != nullptr;
  if (!valid(args.shape) || !aligned(args.q) || !aligned(args.k) || !aligned(args.v) ||
      !aligned(args.out) || !aligned(args.dout) || args.lse.data == nullptr ||
      !aligned(args.dq, args.dq_type) || !aligned(args.dk, args.dkv_type) ||
      !aligned(args.dv, args.dkv_type) || args.workspace == nullptr ||
      (far && !aligned(args.far_dq, args.far_dq_type))) {
    return cudaErrorInvalidValue;
  }
  return args.shape.head_dim == 64 ? launch_backward<64>(args, stream)
                                   : launch_backward<128>(args, stream);
}

int64_t window_backward_workspace(const WindowShape& shape) {
  const int64_t deltas = int64_t{shape.query_heads} * shape.tokens;
  const int64_t partials = int64_t{tile_slots(shape.tokens, shape.sequences)} * shape.kv_heads * 2 *
                           shape.sinks * shape.head_dim;
  return ((deltas + 3) / 4 * 4 + partials) * static_cast<int64_t>(sizeof(float));
}

}  // namespace ssa::cuda
