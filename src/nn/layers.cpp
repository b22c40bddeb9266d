#include "nn/layers.h"

namespace ssa {

LinearImpl::LinearImpl(
    ParameterSource& source, const std::string& name, int64_t n_out, int64_t n_in, bool with_bias) {
  weight = register_parameter("weight", source.parameter(name + ".weight", {n_out, n_in}), false);
  if (with_bias) {
    bias = register_parameter("bias", source.parameter(name + ".bias", {n_out}), false);
  }
}

Tensor LinearImpl::forward(const Tensor& x) const { return torch::linear(x, weight, bias); }

FusedLinear::FusedLinear(std::vector<Linear> parts) : parts_(std::move(parts)) {
  const torch::NoGradGuard no_grad;
  std::vector<Tensor> weights, biases;
  for (const Linear& part : parts_) {
    sizes_.push_back(part->weight.size(0));
    weights.push_back(part->weight);
    if (part->bias.defined()) {
      biases.push_back(part->bias);
    }
  }
  weight_ = torch::cat(weights);
  const bool all_biased = biases.size() == parts_.size();
  TORCH_CHECK(all_biased || biases.empty(), "fused layers must all have a bias, or none");
  bias_ = all_biased ? torch::cat(biases) : Tensor();
  int64_t row = 0;
  for (size_t i = 0; i < parts_.size(); ++i) {
    parts_[i]->weight.set_data(weight_.narrow(0, row, sizes_[i]));
    if (all_biased) {
      parts_[i]->bias.set_data(bias_.narrow(0, row, sizes_[i]));
    }
    row += sizes_[i];
  }
}

std::vector<Tensor> FusedLinear::forward(const Tensor& x) const {
  if (!torch::GradMode::is_enabled()) {
    return torch::linear(x, weight_, bias_).split_with_sizes(sizes_, -1);
  }
  std::vector<Tensor> outputs;
  for (const Linear& part : parts_) {
    outputs.push_back(part->forward(x));
  }
  return outputs;
}

RmsNormImpl::RmsNormImpl(ParameterSource& source, const std::string& name, int64_t size, double eps)
    : eps_(eps) {
  weight = register_parameter("weight", source.parameter(name + ".weight", {size}), false);
}

Tensor RmsNormImpl::forward(const Tensor& x) const {
  const bool half = x.scalar_type() == torch::kBFloat16 || x.scalar_type() == torch::kFloat16;
  const Tensor wide = half ? x.to(torch::kFloat32) : x;
  const Tensor scale = torch::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps_);
  return weight * (wide * scale).to(x.scalar_type());
}

}  // namespace ssa
