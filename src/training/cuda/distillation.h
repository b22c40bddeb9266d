#pragma once

#include <cstdint>

struct CUstream_st;  // *CUstream_st is cudaStream_t; CUDA's own headers are not needed here

namespace ssa::cuda {

/// Rows of bf16 logits, contiguous; they start at multiples of 16 bytes, and columns are a multiple
/// of 8 (fill up with -infinity).
struct Distillation {
  void* student = nullptr;  ///< [rows, columns]; gets its gradient.
  int64_t columns = 0;
  const void* teacher = nullptr;  ///< [rows, teacher_columns]
  int64_t teacher_columns = 0;    ///< At most `columns`; behind them it has no probability.
  float* losses = nullptr;        ///< [rows] KL(teacher || student), f32.
  int64_t rows = 0;
};

/// KL divergence of softmaxes over each row, in two passes over memory: the student's logits become
/// softmax(student) - softmax(teacher), rounded to bf16. Puts a kernel on the stream and returns a
/// cudaError_t as a number: 0, or what the launch said, or cudaErrorInvalidValue (1).
int distillation(const Distillation& args, CUstream_st* stream);

}  // namespace ssa::cuda
