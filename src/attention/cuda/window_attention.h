#pragma once

#include <cstdint>

struct CUstream_st;  // *CUstream_st is cudaStream_t; CUDA's own headers are not needed here

namespace ssa::cuda {

/// Rows of heads in device memory: number i of head h of token t is
/// data[t * token_stride + h * head_stride + i]. Strides count numbers.
///
/// Rows of bf16 must start at multiples of 16 bytes, so strides are multiples of 8.
template <class Data>
struct RowsOf {
  Data* data = nullptr;
  int64_t token_stride = 0;
  int64_t head_stride = 0;
};
using HeadRows = RowsOf<const void>;
using MutableHeadRows = RowsOf<void>;
using RowValues = RowsOf<const float>;  ///< One number a token and head.
using MutableRowValues = RowsOf<float>;

enum class RowType : int32_t { kBfloat16, kFloat32 };

/// The near part of the gist mask. A query sees the keys of its window, and its sequence's sinks.
///
/// Tokens are several sequences one behind the other. Query t of a sequence that starts at s sees
/// keys [begin[t], t], and keys [s, s + sinks) as far as they lie before begin[t]: each key once.
struct WindowShape {
  int32_t tokens = 0;
  int32_t query_heads = 0;  ///< A multiple of kv_heads.
  int32_t kv_heads = 0;
  int32_t head_dim = 0;  ///< 64 or 128.
  int32_t sequences = 0;
  int32_t sinks = 0;  ///< At most kMaxSinks.
  float scale = 0;    ///< Of the scores, usually 1 / sqrt(head_dim).
  /// Device, [tokens]: non-decreasing; sequence start <= begin[t] <= t.
  const int32_t* begin = nullptr;
  /// Device, [sequences + 1]: first token of each sequence, and `tokens` behind the last.
  /// Ascending.
  const int32_t* offsets = nullptr;
};
constexpr int32_t kMaxSinks = 16;

/// Inputs and outputs are bf16, log-sum-exps natural logarithms in f32.
struct WindowForward {
  WindowShape shape;
  HeadRows q, k, v;
  /// What the same queries got from other keys, to be merged; no data: there are none.
  /// far_lse = -inf (or inf): a query saw none there, and its far_out may be anything.
  HeadRows far_out;
  RowValues far_lse;
  MutableHeadRows out;   ///< May be far_out itself.
  MutableRowValues lse;  ///< Merged; may be far_lse itself.
};

/// Gradients of the near part alone; with `out` and `lse` of the whole they are exact.
struct WindowBackward {
  WindowShape shape;
  HeadRows q, k, v;
  HeadRows out;   ///< Merged output, bf16.
  HeadRows dout;  ///< Gradient of the merged output, bf16.
  RowValues lse;  ///< Merged.
  /// Added to dq; no data: nothing is. May be dq itself where the types agree.
  HeadRows far_dq;
  RowType far_dq_type = RowType::kBfloat16;
  MutableHeadRows dq, dk, dv;  ///< Every row of every head is written.
  RowType dq_type = RowType::kBfloat16;
  RowType dkv_type = RowType::kBfloat16;
  void* workspace = nullptr;  ///< Device, 16-byte aligned, window_backward_workspace() bytes.
};

/// Both put kernels on the stream and return a cudaError_t as a number: 0, or what a launch said,
/// or cudaErrorInvalidValue (1) for shapes and strides that the kernels do not serve. The same
/// inputs give the same bits. Thread-safe.
int window_forward(const WindowForward& args, CUstream_st* stream);
int window_backward(const WindowBackward& args, CUstream_st* stream);
int64_t window_backward_workspace(const WindowShape& shape);

}  // namespace ssa::cuda
