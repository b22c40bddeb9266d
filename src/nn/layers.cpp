#include "nn/layers.h"

#include <span>

#include "nn/row_ops.h"

namespace ssa {

namespace {

/// A parameter in the dtype of what it meets: parameters may be held wider than activations.
Tensor matched(const Tensor& x, const Tensor& parameter) {
  return parameter.defined() ? parameter.to(x.scalar_type()) : parameter;
}

bool applies(const std::shared_ptr<LowRank>& update) {
  return update != nullptr && update->is_on();
}

}  // namespace

LinearImpl::LinearImpl(
    ParameterSource& source, const std::string& name, int64_t n_out, int64_t n_in, bool with_bias)
    : packed(source.packed_matrix(name + ".weight", {n_out, n_in})) {
  if (!packed) {
    weight = register_parameter("weight", source.parameter(name + ".weight", {n_out, n_in}), false);
  }
  if (with_bias) {
    bias = register_parameter("bias", source.parameter(name + ".bias", {n_out}), false);
  }
}

Tensor LinearImpl::forward(const Tensor& x) const {
  if (packed) {
    const std::span<const PackedMatrix> weights(&*packed, 1);
    return applies(low_rank_) ? low_rank_->linear(x, weights, bias)
                              : packed_linear(x, weights, bias);
  }
  const Tensor narrow = matched(x, weight), narrow_bias = matched(x, bias);
  return applies(low_rank_) ? low_rank_->linear(x, narrow, narrow_bias)
                            : torch::linear(x, narrow, narrow_bias);
}

Tensor LinearImpl::rows(const Tensor& ids) const {
  return packed ? packed->rows(ids) : torch::embedding(weight, ids);
}

LowRankSite LinearImpl::site(const std::string& name) {
  return {{name},
          {packed ? packed->n_rows() : weight.size(0)},
          packed ? packed->n_columns() : weight.size(1),
          packed.has_value(),
          &low_rank_};
}

FusedLinear::FusedLinear(std::vector<Linear> parts) : parts_(std::move(parts)) {
  const torch::NoGradGuard no_grad;
  std::vector<Tensor> weights, biases;
  for (const Linear& part : parts_) {
    if (part->packed) {
      packed_.push_back(*part->packed);
    } else {
      weights.push_back(part->weight);
    }
    sizes_.push_back(part->packed ? part->packed->n_rows() : part->weight.size(0));
    if (part->bias.defined()) {
      biases.push_back(part->bias);
    }
  }
  TORCH_CHECK(weights.empty() || packed_.empty(), "fused layers must all be packed, or none");
  const bool all_biased = biases.size() == parts_.size();
  TORCH_CHECK(all_biased || biases.empty(), "fused layers must all have a bias, or none");
  weight_ = packed_.empty() ? torch::cat(weights) : Tensor();
  bias_ = all_biased ? torch::cat(biases) : Tensor();
  int64_t row = 0;
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (packed_.empty()) {
      parts_[i]->weight.set_data(weight_.narrow(0, row, sizes_[i]));
    }
    if (all_biased) {
      parts_[i]->bias.set_data(bias_.narrow(0, row, sizes_[i]));
    }
    row += sizes_[i];
  }
}

bool FusedLinear::is_one_product() const {
  return !torch::GradMode::is_enabled() || !packed_.empty() ||
         !parts_.front()->weight.requires_grad();
}

std::vector<Tensor> FusedLinear::forward(const Tensor& x) const {
  if (is_one_product()) {
    return product(x).split_with_sizes(sizes_, -1);
  }
  TORCH_CHECK(!applies(low_rank_), "a layer with a low-rank update has no gradient of its weight");
  std::vector<Tensor> outputs;
  for (const Linear& part : parts_) {
    outputs.push_back(part->forward(x));
  }
  return outputs;
}

Tensor FusedLinear::product(const Tensor& x) const {
  if (!packed_.empty()) {
    return applies(low_rank_) ? low_rank_->linear(x, packed_, bias_)
                              : packed_linear(x, packed_, bias_);
  }
  const Tensor weight = matched(x, weight_), bias = matched(x, bias_);
  return applies(low_rank_) ? low_rank_->linear(x, weight, bias) : torch::linear(x, weight, bias);
}

LowRankSite FusedLinear::site(std::vector<std::string> names) {
  const LinearImpl& first = *parts_.front();
  return {std::move(names),
          sizes_,
          first.packed ? first.packed->n_columns() : first.weight.size(1),
          first.packed.has_value(),
          &low_rank_};
}

RmsNormImpl::RmsNormImpl(ParameterSource& source, const std::string& name, int64_t size, double eps)
    : eps_(eps) {
  weight = register_parameter("weight", source.parameter(name + ".weight", {size}), false);
}

Tensor RmsNormImpl::forward(const Tensor& x) const {
  return rms_norm(x, weight, eps_);
}

std::pair<Tensor, Tensor> RmsNormImpl::forward_beside(const Tensor& x) const {
  return rms_norm_beside(x, weight, eps_);
}

std::pair<Tensor, Tensor> RmsNormImpl::forward_sum(const Tensor& x, const Tensor& y) const {
  return add_rms_norm(x, y, weight, eps_);
}

}  // namespace ssa
