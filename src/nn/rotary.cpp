#include "nn/rotary.h"

#include <cmath>
#include <numbers>

#include "nn/row_ops.h"

namespace ssa {
namespace {

Tensor power_of_theta(double theta, int64_t head_dim) {
  const Tensor exponents = torch::arange(0, head_dim, 2, torch::kInt64).to(torch::kFloat32) /
                           static_cast<double>(head_dim);
  return torch::pow(theta, exponents);
}

/// Llama 3: long wavelengths are divided by the factor, short ones kept, those between blended.
Tensor scale_llama3(const Tensor& frequencies, const RopeConfig& config) {
  const auto original = static_cast<double>(config.original_max_position_embeddings);
  const double low_wavelength = original / config.low_freq_factor;
  const double high_wavelength = original / config.high_freq_factor;
  // A number over a tensor is the number times the tensor's reciprocal to Python, which rounds
  // twice: checkpoints were trained with frequencies made so.
  const Tensor wavelength = frequencies.reciprocal() * (2 * std::numbers::pi);
  const Tensor scaled =
      torch::where(wavelength > low_wavelength, frequencies / config.factor, frequencies);
  const Tensor smooth = (wavelength.reciprocal() * original - config.low_freq_factor) /
                        (config.high_freq_factor - config.low_freq_factor);
  const Tensor blended = (1 - smooth) * scaled / config.factor + smooth * scaled;
  const Tensor between =
      (wavelength < high_wavelength).logical_or(wavelength > low_wavelength).logical_not();
  return torch::where(between, blended, scaled);
}

/// YaRN (arXiv 2309.00071, section 3.2): each dimension is interpolated by how often it turns
/// within the original length.
Tensor scale_yarn(const RopeConfig& config, int64_t head_dim, double original) {
  const auto dim = static_cast<double>(head_dim);
  const auto turning_dim = [&](double turns) {
    return dim * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(config.theta));
  };
  double low = turning_dim(config.beta_fast);
  double high = turning_dim(config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) {
    high += 0.001;  // a ramp of no width would divide by 0
  }
  const Tensor powers = power_of_theta(config.theta, head_dim);
  const Tensor ramp =
      ((torch::arange(head_dim / 2, torch::kFloat32) - low) / (high - low)).clamp(0, 1);
  const Tensor keep = 1 - ramp;
  return (1.0 / (config.factor * powers)) * (1 - keep) + (1.0 / powers) * keep;
}

double yarn_attention_factor(const RopeConfig& config) {
  if (config.attention_factor) {
    return *config.attention_factor;
  }
  const auto magnitude = [&](double mscale) {
    return config.factor <= 1 ? 1.0 : 0.1 * mscale * std::log(config.factor) + 1.0;
  };
  const bool both = config.mscale.value_or(0) != 0 && config.mscale_all_dim.value_or(0) != 0;
  return both ? magnitude(*config.mscale) / magnitude(*config.mscale_all_dim) : magnitude(1.0);
}

}  // namespace

RotaryEmbedding::RotaryEmbedding(const RopeConfig& config,
                                 int64_t head_dim,
                                 int64_t max_position_embeddings,
                                 torch::Device device) {
  const Tensor plain = 1.0 / power_of_theta(config.theta, head_dim);
  const auto original = static_cast<double>(config.original_max_position_embeddings > 0
                                                ? config.original_max_position_embeddings
                                                : max_position_embeddings);
  switch (config.type) {
    case RopeType::kDefault:
      inverse_frequencies_ = plain;
      break;
    case RopeType::kLinear:
      inverse_frequencies_ = plain / config.factor;
      break;
    case RopeType::kLlama3:
      inverse_frequencies_ = scale_llama3(plain, config);
      break;
    case RopeType::kYarn:
      inverse_frequencies_ = scale_yarn(config, head_dim, original);
      attention_factor_ = yarn_attention_factor(config);
      break;
  }
  inverse_frequencies_ = inverse_frequencies_.to(device);
}

RotaryTable RotaryEmbedding::table(const Tensor& positions, torch::ScalarType dtype) const {
  const Tensor half = torch::outer(positions.to(torch::kFloat32), inverse_frequencies_);
  const Tensor angles = torch::cat({half, half}, 1).unsqueeze(1);
  return {(angles.cos() * attention_factor_).to(dtype),
          (angles.sin() * attention_factor_).to(dtype)};
}

Tensor apply_rotary(const Tensor& x, const RotaryTable& table) {
  return rotate_halves(x, table.cos, table.sin);
}

}  // namespace ssa
