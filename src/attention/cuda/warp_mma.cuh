#pragma once

#include <cuda_bf16.h>

#include <cstdint>

/// Products of one warp: 16 rows in registers times rows of bf16 in shared memory.
///
/// Lane l holds rows g = l / 4 and g + 8 of a product, and of every 8 columns the two at 2 * (l %
/// 4) (that is mma.m16n8k16's own layout). Operands that are summed over head_dim come as 16-byte
/// pieces instead: lane l holds numbers [32j + 8 (l % 4), + 8) of its rows for j = 0, 1, ... The
/// sum does not mind the order as long as both sides have the same, and so global and shared memory
/// are read 16 bytes at a time, without ldmatrix.
///
/// Rows in shared memory are not padded; 16-byte piece c of row r lies at piece c ^ swizzle(r).
/// Eight lanes that read two neighbouring rows' halves (the 16-byte reads), or one piece of eight
/// rows (ldmatrix), then meet no bank twice.
namespace ssa::cuda {

constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

struct Lane {
  int id, row, quad;  ///< row 0..7 and its place 0..3 among the four lanes that share it.
  __device__ Lane() : id(threadIdx.x % 32), row(id / 4), quad(id % 4) {}
};

__device__ __forceinline__ int swizzle(int row) {
  return ((row & 1) << 2) | ((row >> 1) & 3);
}

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/// Copies 16 bytes to shared memory behind the caller's back; `present` false: writes zeros.
__device__ __forceinline__ void copy16_async(uint32_t to, const void* from, bool present) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to),
               "l"(from),
               "r"(present ? 16 : 0));
}

__device__ __forceinline__ void copy4_async(uint32_t to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;\n" ::"r"(to), "l"(from));
}

__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;\n" ::);
}

template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

__device__ __forceinline__ uint4 load_shared16(uint32_t at) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(at)
               : "memory");
  return v;
}

/// sum += a b, a 16 x 16 (four registers), b 16 x 8 (two).
__device__ __forceinline__ void multiply_add(
    float (&sum)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t pack(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}

__device__ __forceinline__ float low_half(uint32_t both) {
  return __uint_as_float(both << 16);
}
__device__ __forceinline__ float high_half(uint32_t both) {
  return __uint_as_float(both & 0xffff0000u);
}

/// 16 rows of kDim numbers, held by a warp as 16-byte pieces.
template <int kDim>
struct RowPieces {
  uint4 piece[2][kDim / 32];

  /// From global memory: `low` and `high` point to this lane's two rows.
  __device__ __forceinline__ void load(const __nv_bfloat16* low,
                                       const __nv_bfloat16* high,
                                       int quad) {
#pragma unroll
    for (int j = 0; j < kDim / 32; ++j) {
      piece[0][j] = __ldg(reinterpret_cast<const uint4*>(low + 32 * j + 8 * quad));
      piece[1][j] = __ldg(reinterpret_cast<const uint4*>(high + 32 * j + 8 * quad));
    }
  }
};

/// Address of this lane's first piece of row `row + lane.row`, for operands summed over head_dim.
template <int kDim>
__device__ __forceinline__ uint32_t piece_address(uint32_t rows, int row, const Lane& lane) {
  row += lane.row;
  return rows + row * kDim * 2 + ((lane.quad ^ swizzle(row)) << 4);
}

/// Address that this lane gives ldmatrix for the 16 rows from `row`, for operands summed over rows.
template <int kDim>
__device__ __forceinline__ uint32_t matrix_address(uint32_t rows, int row, const Lane& lane) {
  row += lane.id & 15;
  return rows + row * kDim * 2 + (((lane.id >> 4) ^ swizzle(row)) << 4);
}

template <int kDim>
__device__ __forceinline__ uint4 shared_piece(uint32_t address, int j) {
  return load_shared16((address ^ ((j & 1) << 6)) + (j >> 1) * 128);
}

/// sum[half] += a b^T over 32 of head_dim: a 16 rows (low, high), b 8 rows.
__device__ __forceinline__ void multiply_pieces(float (&sum)[4],
                                                const uint4& low,
                                                const uint4& high,
                                                const uint4& b) {
  multiply_add(sum, low.x, high.x, low.y, high.y, b.x, b.y);
  multiply_add(sum, low.z, high.z, low.w, high.w, b.z, b.w);
}

/// The 16 x 16 products of rows `a` and of 16 rows in shared memory (piece_address): [half of 8
/// columns].
template <int kDim>
__device__ __forceinline__ void row_products(const RowPieces<kDim>& a,
                                             uint32_t b,
                                             float (&sum)[2][4]) {
#pragma unroll
  for (int j = 0; j < kDim / 32; ++j) {
    multiply_pieces(sum[0], a.piece[0][j], a.piece[1][j], shared_piece<kDim>(b, j));
    multiply_pieces(sum[1], a.piece[0][j], a.piece[1][j], shared_piece<kDim>(b + 16 * kDim, j));
  }
}

/// The same with both operands in shared memory.
template <int kDim>
__device__ __forceinline__ void row_products(uint32_t a, uint32_t b, float (&sum)[2][4]) {
#pragma unroll
  for (int j = 0; j < kDim / 32; ++j) {
    const uint4 low = shared_piece<kDim>(a, j), high = shared_piece<kDim>(a + 16 * kDim, j);
    multiply_pieces(sum[0], low, high, shared_piece<kDim>(b, j));
    multiply_pieces(sum[1], low, high, shared_piece<kDim>(b + 16 * kDim, j));
  }
}

/// sum += weights (16 x 16, as a product left them, rounded to bf16) times 16 rows in shared memory
/// (matrix_address).
template <int kDim>
__device__ __forceinline__ void add_weighted_rows(const float (&weights)[2][4],
                                                  uint32_t rows,
                                                  float (&sum)[kDim / 8][4]) {
  const uint32_t a0 = pack(weights[0][0], weights[0][1]), a1 = pack(weights[0][2], weights[0][3]);
  const uint32_t a2 = pack(weights[1][0], weights[1][1]), a3 = pack(weights[1][2], weights[1][3]);
#pragma unroll
  for (int n = 0; n < kDim / 16; ++n) {
    uint32_t b0, b1, b2, b3;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(b0), "=r"(b1), "=r"(b2), "=r"(b3)
                 : "r"((rows ^ ((n & 3) << 5)) + (n >> 2) * 128)
                 : "memory");
    multiply_add(sum[2 * n], a0, a1, a2, a3, b0, b1);
    multiply_add(sum[2 * n + 1], a0, a1, a2, a3, b2, b3);
  }
}

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ __forceinline__ void exchange(uint32_t& a, uint32_t& b, bool upper, int distance) {
  const uint32_t got = __shfl_xor_sync(0xffffffffu, upper ? a : b, distance);
  a = upper ? got : a;
  b = upper ? b : got;
}

/// v[i] of the quad's lane j goes to v[j] of lane i: from a product's layout of bf16 pairs (v[i] =
/// the pair of columns 8 i + 2 quad) to 16-byte pieces (columns 8 quad + 2 i), and back.
__device__ __forceinline__ void transpose_quad(uint32_t (&v)[4], int quad) {
  exchange(v[0], v[1], quad & 1, 1);
  exchange(v[2], v[3], quad & 1, 1);
  exchange(v[0], v[2], quad & 2, 2);
  exchange(v[1], v[3], quad & 2, 2);
}

}  // namespace ssa::cuda
