// The small parts of a decoder layer.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nn/low_rank.h"
#include "nn/packed_matrix.h"

namespace ssa {

using torch::Tensor;

/// Where a model's parameters come from: a checkpoint, or an initialiser.
class ParameterSource {
 public:
  virtual ~ParameterSource() = default;
  /// The tensor of that Hugging Face name and shape, in the model's dtype and on its device. Throws
  /// Error if it is missing or misshapen.
  virtual Tensor parameter(const std::string& name, at::IntArrayRef shape) = 0;
  /// The same matrix in 8 bits, where the model is to hold it so; else parameter() has it.
  virtual std::optional<PackedMatrix> packed_matrix(const std::string& /*name*/,
                                                    at::IntArrayRef /*shape*/) {
    return std::nullopt;
  }
};

/// y = x W^T + b. Parameters "weight" [n_out, n_in], unless the source holds it packed, and, where
/// asked for, "bias" [n_out].
class LinearImpl : public torch::nn::Module {
 public:
  LinearImpl(
      ParameterSource& source, const std::string& name, int64_t n_out, int64_t n_in, bool bias);
  Tensor forward(const Tensor& x) const;
  /// Rows of the weight, which is how an embedding reads it: [n_ids, n_in].
  Tensor rows(const Tensor& ids) const;
  /// Where a low-rank update may be attached; `name` is the layer's.
  LowRankSite site(const std::string& name);

  Tensor weight;                       // undefined where packed
  Tensor bias;                         // may be undefined
  std::optional<PackedMatrix> packed;  // in the place of weight

 private:
  std::shared_ptr<LowRank> low_rank_;  // null: none
};
TORCH_MODULE(Linear);

/// Several linear layers over one input, computed as one product where their weights ask for no
/// gradient.
/// Takes over their parameters' storage: they become views of one tensor, so nothing is held twice.
class FusedLinear {
 public:
  FusedLinear() = default;
  explicit FusedLinear(std::vector<Linear> parts);
  /// The parts' outputs, in order.
  std::vector<Tensor> forward(const Tensor& x) const;
  /// No gradient of the weights is wanted; only then product() may be called.
  bool is_one_product() const;
  /// The parts' outputs side by side: [n_tokens, sum of n_out].
  Tensor product(const Tensor& x) const;
  /// Where low-rank updates may be attached; `names` are the parts'.
  LowRankSite site(std::vector<std::string> names);

 private:
  std::vector<Linear> parts_;
  std::vector<int64_t> sizes_;
  Tensor weight_;                      // [sum of n_out, n_in]; undefined where packed
  Tensor bias_;                        // may be undefined
  std::vector<PackedMatrix> packed_;   // of all parts, or none
  std::shared_ptr<LowRank> low_rank_;  // null: none
};

/// x / rms(x) * weight over the last dimension; the mean square is taken in float32 or better
/// (arXiv 1910.07467).
class RmsNormImpl : public torch::nn::Module {
 public:
  RmsNormImpl(ParameterSource& source, const std::string& name, int64_t size, double eps);
  Tensor forward(const Tensor& x) const;
  /// {x, its norm}, for those who go on with both.
  std::pair<Tensor, Tensor> forward_beside(const Tensor& x) const;
  /// {x + y, its norm}.
  std::pair<Tensor, Tensor> forward_sum(const Tensor& x, const Tensor& y) const;

  Tensor weight;  // [size]

 private:
  double eps_;
};
TORCH_MODULE(RmsNorm);

}  // namespace ssa
