// Low-rank updates in the form that decoding reads.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "nn/cpu/low_rank_kernels.h"
#include "nn/packed_matrix.h"

namespace ssa {

using torch::Tensor;

/// Where an adapted layer lies among those that share an input.
struct LowRankBlock {
  int64_t part, first_out, n_out;  // columns of y
  int64_t first_rank;              // rows of a
  int64_t first_row;               // rows of b
};

/// Copies of A and B (nn/low_rank.h) for up to eight tokens (nn/cpu/low_rank_kernels.h), on the
/// CPU. Immutable, safe from many threads.
class PackedUpdate {
 public:
  /// What A and B are held in: numbers of `dtype`, float32 or bfloat16, or 8 bits with scales.
  enum class Form { kPlain, kInt8 };

  /// a: [n_adapted * rank, n_in], b: [sum of n_out, rank]. `dtype` is x's and y's. Throws Error
  /// where a number is not finite and the form is kInt8.
  PackedUpdate(const Tensor& a,
               const Tensor& b,
               std::vector<LowRankBlock> blocks,
               double scale,
               torch::ScalarType dtype,
               Form form);

  Form form() const { return form_; }
  /// True for x [n_tokens, n_in] on the CPU, in its dtype, of few tokens without gradients.
  bool takes(const Tensor& x) const;

  /// kPlain: adds the updates to y [n_tokens, sum of n_out] in place, by threads of its own.
  void add_to(const Tensor& y, const Tensor& x) const;

  // kInt8, for a product that adds the updates itself (packed_linear).
  /// scale * A: [n_adapted * rank, n_in].
  const PackedMatrix& a() const { return *packed_a_; }
  /// y += z B^T in strips [begin, end) of one of the layers, if it is adapted. z: [n_tokens,
  /// n_adapted * rank], y: [n_tokens, y_stride] of all layers.
  template <class T>
  void add(int64_t part,
           int64_t begin,
           int64_t end,
           const float* z,
           int64_t n_tokens,
           T* y,
           int64_t y_stride) const;

 private:
  template <class T>
  void add_plain(const Tensor& y, const Tensor& x) const;
  template <class T>
  cpu::UpdatedRows<T> rows_of(
      const LowRankBlock& block, const float* z, int64_t n_tokens, T* y, int64_t y_stride) const;

  Form form_;
  torch::ScalarType dtype_;
  int64_t n_in_, n_ranks_, rank_;
  float scale_;  // of z
  std::vector<LowRankBlock> blocks_;
  Tensor a_;                              // kPlain: [n_ranks, n_in]
  std::optional<PackedMatrix> packed_a_;  // kInt8, times scale
  std::vector<Tensor> strips_;            // B of each block
};

}  // namespace ssa
