// A matrix of 8-bit weights as a layer sees it.
#pragma once

#include <torch/types.h>

#include <span>
#include <string>

#include "checkpoint/host_tensor.h"
#include "nn/cpu/int8_matrix.h"

namespace ssa {

using torch::Tensor;

class PackedUpdate;

/// [n_rows, n_columns] weights in blocks of 32 with a scale each (nn/cpu/int8_matrix.h), held once,
/// in that form alone, on the CPU; for inference. Copies share the weights. Immutable, safe from
/// many threads.
class PackedMatrix {
 public:
  /// Quantises floating-point weights. `dtype`, float32 or bfloat16, is what products are computed
  /// for. Throws Error naming the tensor if a weight is not finite, or too large for a block's
  /// scale. `memory`: bytes() of it, uint8, for the matrix to live in; undefined: its own.
  static PackedMatrix quantize(const Tensor& weights,
                               torch::ScalarType dtype,
                               const std::string& name,
                               const Tensor& memory = {});
  /// Takes over a file's own blocks as they are: [n_rows, n_blocks * 34] bytes.
  static PackedMatrix from_blocks(const HostTensor& blocks,
                                  torch::ScalarType dtype,
                                  const Tensor& memory = {});
  /// Bytes of a matrix in this form.
  static uint64_t bytes(int64_t n_rows, int64_t n_columns);

  int64_t n_rows() const { return n_rows_; }
  int64_t n_columns() const { return n_columns_; }
  torch::ScalarType dtype() const { return dtype_; }
  cpu::Int8MatrixView view() const;

  /// Rows as numbers of dtype(): [n_ids, n_columns]. ids: [n_ids] int64.
  Tensor rows(const Tensor& ids) const;
  /// All of them, into `out` [n_rows, n_columns].
  void unpack(Tensor out) const;

 private:
  PackedMatrix(int64_t n_rows, int64_t n_columns, torch::ScalarType dtype, const Tensor& memory);
  /// Calls fill(first_row, n_rows, blocks) for every strip, in parallel, to get the Q8_0 blocks of
  /// its rows.
  template <class Fill>
  void pack(const Fill& fill);

  int64_t n_rows_, n_columns_;
  torch::ScalarType dtype_;
  Tensor strips_;  // uint8
};

/// x W^T + b for all matrices over one input, side by side: [n_tokens, sum of n_rows]. Up to eight
/// tokens are multiplied with the 8-bit weights, each block of 32 inputs rounded to 15 bits; more
/// tokens (and inputs that want a gradient) see the weights as numbers of dtype(), unpacked for
/// this call. `update`, in 8 bits and for a few tokens only (PackedUpdate::takes), is added by the
/// same threads.
Tensor packed_linear(const Tensor& x,
                     std::span<const PackedMatrix> matrices,
                     const Tensor& bias,
                     const PackedUpdate* update = nullptr);

}  // namespace ssa
