#pragma once

#include <cstdint>

struct CUstream_st;  // *CUstream_st is cudaStream_t; CUDA's own headers are not needed here

/// What a decoder layer does between its matrix products, forward and backward, on bf16 rows in
/// device memory with f32 arithmetic.
///
/// Rows start at multiples of 16 bytes, and row lengths and strides, counted in numbers, are
/// multiples of 8 (rotary embedding: 16). Functions put kernels on the stream and return a
/// cudaError_t as a number: 0, or what a launch said, or cudaErrorInvalidValue (1) for sizes they
/// do not serve. The same inputs give the same bits. Thread-safe.
namespace ssa::cuda {

/// Rotary embedding of [tokens, heads, head_dim]: out = x * cos + turned(x) * sin, where turned(x)
/// is
/// (-second half, first half). Backward is the same with `inverse`: the turn by the negative angle.
struct Rotary {
  const void* x = nullptr;
  int64_t x_token_stride = 0, x_head_stride = 0;
  void* out = nullptr;  ///< May be x.
  int64_t out_token_stride = 0, out_head_stride = 0;
  const void *cos = nullptr, *sin = nullptr;  ///< [tokens, head_dim], contiguous; halves are alike.
  bool tables_are_float = false;              ///< f32; otherwise bf16.
  bool inverse = false;
  int32_t tokens = 0, heads = 0, head_dim = 0;
};
int rotate_halves(const Rotary& args, CUstream_st* stream);

/// out = silu(gate) * up over [rows, columns]; out is contiguous.
struct SiluTimes {
  const void *gate = nullptr, *up = nullptr;
  int64_t gate_stride = 0, up_stride = 0;
  void* out = nullptr;
  int64_t rows = 0, columns = 0;
};
int silu_times(const SiluTimes& args, CUstream_st* stream);

/// dgate and dup may lie side by side in one matrix, or be gate and up themselves.
struct SiluTimesBackward {
  const void *gate = nullptr, *up = nullptr;
  int64_t gate_stride = 0, up_stride = 0;
  const void* dout = nullptr;  ///< Contiguous.
  void *dgate = nullptr, *dup = nullptr;
  int64_t dgate_stride = 0, dup_stride = 0;
  int64_t rows = 0, columns = 0;
};
int silu_times_backward(const SiluTimesBackward& args, CUstream_st* stream);

/// sum = x + residual (rounded to bf16), out = weight * bf16(sum / rms(sum)). All [rows, columns]
/// and contiguous; columns <= kMaxNormColumns.
struct AddNorm {
  const void* x = nullptr;
  const void* residual = nullptr;  ///< Null: sum is x, and is not written.
  const void* weight = nullptr;    ///< [columns]
  void* sum = nullptr;             ///< May be x or residual.
  void* out = nullptr;
  float* inverse_rms = nullptr;  ///< [rows], for the backward pass; null: not kept.
  float eps = 0;
  int64_t rows = 0;
  int32_t columns = 0;
};
constexpr int32_t kMaxNormColumns = 8192;
int add_rms_norm(const AddNorm& args, CUstream_st* stream);

/// dx (of x and of residual alike) = dsum + the gradient through the norm.
struct AddNormBackward {
  const void* sum = nullptr;
  const void* weight = nullptr;
  const float* inverse_rms = nullptr;
  const void* dout = nullptr;
  const void* dsum = nullptr;  ///< What else sum's gradient is made of; null: nothing.
  void* dx = nullptr;          ///< May be dsum or dout.
  float* dweight = nullptr;    ///< [columns], f32; null: not wanted.
  bool add_to_dweight = false;
  /// Device, 16-byte aligned, add_rms_norm_workspace() bytes; for dweight alone.
  void* workspace = nullptr;
  int64_t rows = 0;
  int32_t columns = 0;
};
int add_rms_norm_backward(const AddNormBackward& args, CUstream_st* stream);
int64_t add_rms_norm_workspace(int64_t rows, int32_t columns);

}  // namespace ssa::cuda
