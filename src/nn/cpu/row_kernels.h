// What a decoder does between its matrices, for one token at a time, on the CPU: each a single pass
// over a row that lies in the cache, where a chain of LibTorch operations would take microseconds
// to start each.
#pragma once

#include <cstdint>

#include "base/cpu_features.h"
#include "nn/cpu/bf16.h"

namespace ssa::cpu {

/// Functions of one instruction set, for numbers of type T: float or BF16. Arithmetic is in float,
/// and rounded once at the end. `out` may be one of the inputs. Safe from many threads; none
/// allocates.
template <class T>
struct RowKernels {
  /// out = x / sqrt(mean(x^2) + eps) * weight, n numbers each.
  void (*rms_norm)(const T* x, const T* weight, float eps, int64_t n, T* out);
  /// out = gate / (1 + exp(-gate)) * up.
  void (*silu_times)(const T* gate, const T* up, int64_t n, T* out);
  void (*add)(const T* a, const T* b, int64_t n, T* out);
  /// Each head's dimension i is turned with i + head_dim / 2. heads, out: [n_heads, head_dim]; cos,
  /// sin: [head_dim].
  void (*rotate)(
      const T* heads, const T* cos, const T* sin, int64_t n_heads, int64_t head_dim, T* out);
};

template <class T>
const RowKernels<T>& row_kernels(InstructionSet set);

/// The tables it chooses from, each in a file of its own.
template <class T>
const RowKernels<T>& row_kernels_portable();
template <class T>
const RowKernels<T>& row_kernels_avx2();
template <class T>
const RowKernels<T>& row_kernels_avx512();

}  // namespace ssa::cpu
