// Low-rank updates of linear layers: y = x W^T + b + scale * (x A^T) B^T (LoRA, arXiv 2106.09685).
#pragma once

#include <torch/types.h>

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "nn/packed_update.h"

namespace ssa {

using torch::Tensor;

/// Whether the updates of one model apply; all its layers look at the same. Not to be changed while
/// the model runs.
struct LowRankSwitch {
  bool on = true;
};

/// Off as long as it lives; a null switch stays as it is.
class SwitchedOff {
 public:
  explicit SwitchedOff(std::shared_ptr<LowRankSwitch> of)
      : switch_(std::move(of)), was_on_(switch_ != nullptr && switch_->on) {
    if (switch_ != nullptr) {
      switch_->on = false;
    }
  }
  ~SwitchedOff() {
    if (switch_ != nullptr) {
      switch_->on = was_on_;
    }
  }
  SwitchedOff(const SwitchedOff&) = delete;
  SwitchedOff& operator=(const SwitchedOff&) = delete;

 private:
  std::shared_ptr<LowRankSwitch> switch_;
  bool was_on_;
};

/// The updates of the layers that read one input (q, k and v, say): A of all of them is one matrix,
/// so that the input is read once. Safe from many threads while nobody changes A, B or the switch.
class LowRank {
 public:
  /// One layer of those; one that is not adapted has neither A nor B.
  struct Part {
    int64_t n_out = 0;
    bool adapted = true;
  };

  /// A and B are zeros of `options`.
  LowRank(const std::vector<Part>& parts,
          int64_t n_in,
          int64_t rank,
          double scale,
          const torch::TensorOptions& options,
          std::shared_ptr<const LowRankSwitch> on);

  bool is_on() const { return switch_->on; }
  int64_t rank() const { return rank_; }

  /// x W^T + bias, the updates added. x: [n_tokens, n_in], W: [sum of n_out, n_in] without
  /// gradient, in x's dtype; bias may be undefined. Differentiable in x, A and B, which may be held
  /// wider than x.
  Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) const;
  /// The same of weights in 8 bits. Differentiable in nothing.
  Tensor linear(const Tensor& x, std::span<const PackedMatrix> weights, const Tensor& bias) const;

  /// From now on a few tokens of `dtype` without gradients take A and B packed, as they are now:
  /// for inference, on the CPU. kInt8: for weights in 8 bits.
  void pack(torch::ScalarType dtype, PackedUpdate::Form form);

  /// Of all adapted layers, one behind the other.
  Tensor a;  // [n_adapted * rank, n_in]
  Tensor b;  // [sum of their n_out, rank]
  /// Views of these; of an adapted part.
  Tensor a_of(size_t part) const;  // [rank, n_in]
  Tensor b_of(size_t part) const;  // [n_out, rank]

  using Block = LowRankBlock;

 private:
  const Block& block_of(size_t part) const;
  /// Adds the updates to y [n_tokens, sum of n_out] in place.
  void add_to(const Tensor& y, const Tensor& x) const;

  int64_t rank_;
  double scale_;
  std::vector<Block> blocks_;
  std::shared_ptr<const PackedUpdate> packed_;  // null: not packed
  std::shared_ptr<const LowRankSwitch> switch_;
};

/// A place in a model where updates may be attached: the layers that read one input.
struct LowRankSite {
  std::vector<std::string> names;  // Hugging Face's: "model.layers.0.self_attn.q_proj"
  std::vector<int64_t> n_out;      // of each
  int64_t n_in = 0;
  bool int8 = false;                         // weights are held in 8 bits
  std::shared_ptr<LowRank>* slot = nullptr;  // valid as long as the model
};

}  // namespace ssa
