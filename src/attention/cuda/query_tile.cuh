#pragma once

#include <cuda_runtime.h>

#include <climits>

#include "attention/cuda/warp_mma.cuh"
#include "attention/cuda/window_attention.h"

/// A block of threads serves 64 tokens of one sequence and one KV head.
///
/// Most windows are short: the 64 tokens' windows together span less than 128 keys. Those lie in
/// shared memory once, and each of four warps takes 16 tokens through the group's query heads
/// without ever waiting for another warp: its queries and sums are in registers, and of the keys it
/// visits, in blocks of 16, only those that one of its tokens sees. Longer spans (a suffix) are
/// streamed in tiles of 64 keys, again for each head.
///
/// The backward pass is two kernels over the same products: dq by blocks that own queries, dk and
/// dv by blocks that own 64 keys and stream the queries that see them, so that nothing is added
/// atomically. There a fifth warp owns the sinks, for the block's own 64 queries; its sums are
/// added up over the sequence by a third kernel, always in the same order.
namespace ssa::cuda {

using Bf16 = __nv_bfloat16;

constexpr int kTile = 64;       ///< Tokens a block of threads, and keys a streamed tile.
constexpr int kBlock = 16;      ///< Tokens a warp, and keys a step.
constexpr int kGroup = 4;       ///< Steps that share one round of online softmax.
constexpr int kResident = 128;  ///< Keys in shared memory, beside the sinks.
constexpr int kKeyRows = kMaxSinks + kResident;
constexpr int kQueryThreads = 32 * kTile / kBlock;
constexpr int kMaxSequences = 65535;  ///< What a grid's second dimension holds.

// Where a block stands.

struct Tile {
  int sequence_begin, sequence_end;
  int row, end;  ///< Its tokens: [row, end), at most kTile.
};

/// Tiles are numbered so that a sequence's first is offset / 64 + its number: no two sequences
/// share a number, and a few numbers stand for no tile.
__host__ __device__ inline int tile_slots(int tokens, int sequences) {
  return tokens / kTile + sequences;
}

/// Called by all threads of a block; false where the slot holds no tile.
__device__ inline bool find_tile(const WindowShape& shape, int slot, Tile& tile) {
  int before = 0;  // sequences whose first tile is at or before this slot
  for (int s = 0; s < shape.sequences; s += blockDim.x) {
    const int mine = s + threadIdx.x;
    before +=
        __syncthreads_count(mine < shape.sequences && shape.offsets[mine] / kTile + mine <= slot);
  }
  if (before == 0) {
    return false;
  }
  const int sequence = before - 1;
  tile.sequence_begin = shape.offsets[sequence];
  tile.sequence_end = shape.offsets[sequence + 1];
  tile.row = tile.sequence_begin + kTile * (slot - tile.sequence_begin / kTile - sequence);
  tile.end = min(tile.row + kTile, tile.sequence_end);
  return tile.row < tile.end;
}

__device__ __forceinline__ const Bf16* row_of(const HeadRows& rows, int64_t token, int head) {
  return static_cast<const Bf16*>(rows.data) + token * rows.token_stride + head * rows.head_stride;
}

template <class Data>
__device__ __forceinline__ Data& value_of(const RowsOf<Data>& values, int64_t token, int head) {
  return values.data[token * values.token_stride + head * values.head_stride];
}

/// Copies `count` rows to shared memory, to row `at` and behind; from the `present`-th on, zeros.
template <int kDim>
__device__ __forceinline__ void copy_rows(
    uint32_t to, int at, const Bf16* from, int64_t stride, int count, int present) {
  constexpr int kPieces = kDim / 8;
  for (int i = threadIdx.x; i < count * kPieces; i += blockDim.x) {
    const int row = i / kPieces, piece = i % kPieces;
    const bool here = row < present;
    copy16_async(to + (at + row) * kDim * 2 + ((piece ^ swizzle(at + row)) << 4),
                 from + (here ? row * stride : 0) + piece * 8,
                 here);
  }
}

template <int kDim>
__device__ __forceinline__ void copy_sinks(uint32_t to,
                                           int at,
                                           const HeadRows& rows,
                                           const WindowShape& shape,
                                           const Tile& tile,
                                           int head) {
  copy_rows<kDim>(to,
                  at,
                  row_of(rows, tile.sequence_begin, head),
                  rows.token_stride,
                  kMaxSinks,
                  min(shape.sinks, tile.sequence_end - tile.sequence_begin));
}

// Queries and what they see.

/// The 16 queries of a warp; two of them, by their rows, are this lane's. Places behind the tile's
/// end repeat its last query, and are not written.
struct WarpQueries {
  int first_key, last_key;  ///< All windows together; no queries: last < first.
  int sink_end;             ///< Behind the sequence's sinks.
  bool see_sinks;           ///< One of them at least.
  int token[2], begin[2];

  __device__ WarpQueries(const WindowShape& shape, const Tile& tile, const Lane& lane) {
    const int row = first_row(tile);
    const bool any = row < tile.end;
    last_key = any ? min(row + kBlock, tile.end) - 1 : -1;
    first_key = any ? shape.begin[row] : 0;
    sink_end = tile.sequence_begin + shape.sinks;
    see_sinks = any && shape.sinks > 0 && shape.begin[last_key] > tile.sequence_begin;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      token[r] = min(row + lane.row + 8 * r, tile.end - 1);
      begin[r] = shape.begin[token[r]];
    }
  }

  __device__ __forceinline__ static int first_row(const Tile& tile) {
    return tile.row + kBlock * static_cast<int>(threadIdx.x / 32);
  }
  __device__ __forceinline__ static bool present(const Tile& tile, int r, const Lane& lane) {
    return first_row(tile) + lane.row + 8 * r < tile.end;
  }
};

/// 16 keys: their rows in shared memory and which of them a lane's queries see.
struct KeyBlock {
  int row, key;
  bool sinks;

  __device__ __forceinline__ bool seen(const WarpQueries& queries, int r, int column) const {
    const int k = key + column;
    return sinks ? k < min(queries.begin[r], queries.sink_end)
                 : k >= queries.begin[r] && k <= queries.token[r];
  }
};

/// Up to kGroup blocks: the sinks, if asked for, and neighbouring blocks of the window.
struct KeyGroup {
  int key, row, window_blocks, sequence_begin;
  bool sinks;

  __device__ __forceinline__ int blocks() const { return window_blocks + (sinks ? 1 : 0); }
  __device__ __forceinline__ KeyBlock block(int b) const {
    if (sinks && b == 0) {
      return {0, sequence_begin, true};
    }
    const int at = kBlock * (b - (sinks ? 1 : 0));
    return {row + at, key + at, false};
  }
};

/// A tile's keys and values in shared memory: kMaxSinks rows of sinks, then rows of the window.
template <int kDim>
struct KeyWindow {
  const Tile& tile;
  const HeadRows &k_rows, &v_rows;
  int head;
  uint32_t k, v;
  int first_key, keys;

  __device__ KeyWindow(const WindowShape& shape,
                       const Tile& of_tile,
                       const HeadRows& all_k,
                       const HeadRows& all_v,
                       int kv_head,
                       const void* shared)
      : tile(of_tile),
        k_rows(all_k),
        v_rows(all_v),
        head(kv_head),
        k(shared_address(shared)),
        v(k + kKeyRows * kDim * 2),
        first_key(shape.begin[tile.row]),
        keys(tile.end - first_key) {
    copy_sinks<kDim>(k, 0, k_rows, shape, tile, head);
    copy_sinks<kDim>(v, 0, v_rows, shape, tile, head);
    if (resident()) {
      copy_keys(kMaxSinks, 0, keys);
    }
    commit_copies();
    wait_copies<0>();
    __syncthreads();
  }

  __device__ bool resident() const { return keys <= kResident; }

  /// Calls fn(KeyGroup) until the warp's queries have met all keys they see. All warps call it.
  template <class Fn>
  __device__ __forceinline__ void visit(const WarpQueries& queries, const Fn& fn) {
    if (resident()) {
      visit_resident(queries, fn);
    } else {
      stream(queries, fn);
    }
  }

  /// Blocks end with the last key, so the first may begin up to 15 rows too early: in the sinks'
  /// rows.
  template <class Fn>
  __device__ __forceinline__ void visit_resident(const WarpQueries& queries, const Fn& fn) {
    if (queries.last_key < queries.first_key) {
      return;
    }
    int blocks = (queries.last_key - queries.first_key + kBlock) / kBlock;
    int key = queries.last_key + 1 - kBlock * blocks;
    for (bool sinks = queries.see_sinks; blocks > 0; sinks = false) {
      const int now = min(blocks, kGroup - (sinks ? 1 : 0));
      fn(KeyGroup{key, kMaxSinks + key - first_key, now, tile.sequence_begin, sinks});
      blocks -= now;
      key += kBlock * now;
    }
  }

  template <class Fn>
  __device__ __forceinline__ void stream(const WarpQueries& queries, const Fn& fn) {
    const int tiles = (keys + kTile - 1) / kTile;
    copy_tile(0);
    for (int i = 0; i < tiles; ++i) {
      if (i + 1 < tiles) {
        copy_tile(i + 1);
        wait_copies<1>();
      } else {
        wait_copies<0>();
      }
      __syncthreads();
      const int start = first_key + kTile * i;
      const int low = max(queries.first_key, start),
                high = min(queries.last_key, start + kTile - 1);
      const bool sinks = i == 0 && queries.see_sinks;
      if (sinks) {
        fn(KeyGroup{0, 0, 0, tile.sequence_begin, true});
      }
      if (low <= high) {
        const int block = (low - start) / kBlock;
        fn(KeyGroup{start + kBlock * block,
                    kMaxSinks + kTile * (i % 2) + kBlock * block,
                    (high - start) / kBlock - block + 1,
                    tile.sequence_begin,
                    false});
      }
      __syncthreads();
    }
  }

  __device__ __forceinline__ void copy_tile(int i) {
    copy_keys(kMaxSinks + kTile * (i % 2), kTile * i, kTile);
    commit_copies();
  }

  /// The window's keys [first, first + count) to row `at`; zeros behind its end.
  __device__ __forceinline__ void copy_keys(int at, int first, int count) {
    const int64_t key = first_key + first;
    copy_rows<kDim>(k, at, row_of(k_rows, key, head), k_rows.token_stride, count, keys - first);
    copy_rows<kDim>(v, at, row_of(v_rows, key, head), v_rows.token_stride, count, keys - first);
  }
};

/// Asks L2 for the warp's 16 rows of one head, a cache line a lane.
template <int kDim>
__device__ __forceinline__ void prefetch_rows(const HeadRows& rows,
                                              const Tile& tile,
                                              int head,
                                              const Lane& lane) {
  constexpr int kLines = kDim * 2 / 128;
  const int token = min(WarpQueries::first_row(tile) + lane.id / kLines, tile.end - 1);
  if (lane.id < kBlock * kLines) {
    asm volatile(
        "prefetch.global.L2 [%0];\n" ::"l"(row_of(rows, token, head) + lane.id % kLines * 64));
  }
}

// Launches.

inline bool valid(const WindowShape& s) {
  return s.tokens > 0 && s.sequences > 0 && s.sequences <= kMaxSequences && s.kv_heads > 0 &&
         s.query_heads > 0 && s.query_heads % s.kv_heads == 0 &&
         (s.head_dim == 64 || s.head_dim == 128) && s.sinks >= 0 && s.sinks <= kMaxSinks &&
         s.begin != nullptr && s.offsets != nullptr &&
         int64_t{tile_slots(s.tokens, s.sequences)} * s.kv_heads <= INT_MAX;
}

/// Can rows be read 16 bytes (f32: 8 bytes) at a time?
template <class Data>
bool aligned(const RowsOf<Data>& rows, RowType type = RowType::kBfloat16) {
  const int64_t numbers = type == RowType::kBfloat16 ? 8 : 2, bytes = numbers == 8 ? 16 : 8;
  return rows.data != nullptr && reinterpret_cast<uintptr_t>(rows.data) % bytes == 0 &&
         rows.token_stride % numbers == 0 && rows.head_stride % numbers == 0;
}

template <class Args>
cudaError_t launch(
    void (*kernel)(Args), const Args& args, int threads, size_t shared, cudaStream_t stream) {
  const cudaError_t allowed = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (allowed != cudaSuccess) {
    return allowed;
  }
  const int blocks = tile_slots(args.shape.tokens, args.shape.sequences) * args.shape.kv_heads;
  kernel<<<blocks, threads, shared, stream>>>(args);
  return cudaGetLastError();
}

constexpr size_t key_window_bytes(int dim) {
  return size_t{2} * kKeyRows * dim * sizeof(Bf16);
}

}  // namespace ssa::cuda
