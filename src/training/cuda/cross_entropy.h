#pragma once

#include <cstdint>

struct CUstream_st;  // *CUstream_st is cudaStream_t; CUDA's own headers are not needed here

namespace ssa::cuda {

/// Cross entropy of rows of bf16 logits, and its gradient in their place, in two passes over
/// memory: logits become softmax(logits) - one_hot(target), rounded to bf16; losses[row] = -log
/// softmax(logits)[target], f32. Rows are contiguous and start at multiples of 16 bytes; columns
/// are a multiple of 8 (fill up with -infinity). Puts a kernel on the stream and returns a
/// cudaError_t as a number: 0, or what the launch said.
int cross_entropy(void* logits,
                  const int64_t* targets,
                  float* losses,
                  int64_t rows,
                  int64_t columns,
                  CUstream_st* stream);

}  // namespace ssa::cuda
