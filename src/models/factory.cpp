#include "models/factory.h"

#include <ATen/CPUGeneratorImpl.h>

#include <array>
#include <cmath>
#include <string>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "checkpoint/expected_tensors.h"
#include "models/decoder.h"
#include "nn/huge_pages.h"
#include "tensor/convert.h"

namespace ssa {
namespace {

struct FactoryEntry {
  Architecture architecture;
  DecoderTraits (*traits)(const ModelConfig&);
};

DecoderTraits llama_traits(const ModelConfig& config) {
  return {.qkv_bias = config.attention_bias,
          .output_bias = config.attention_output_bias,
          .mlp_bias = config.mlp_bias};
}
DecoderTraits qwen2_traits(const ModelConfig&) {
  return {.qkv_bias = true};
}
DecoderTraits qwen3_traits(const ModelConfig& config) {
  return {.qkv_bias = config.attention_bias,
          .output_bias = config.attention_output_bias,
          .qk_norm = true};
}
DecoderTraits llama_nsa_traits(const ModelConfig& config) {
  return {.qkv_bias = config.attention_bias,
          .output_bias = config.attention_output_bias,
          .mlp_bias = config.mlp_bias,
          .output_gate = true};
}

/// Every architecture there is.
constexpr std::array kFactories = {
    FactoryEntry{Architecture::kLlama, llama_traits},
    FactoryEntry{Architecture::kQwen2, qwen2_traits},
    FactoryEntry{Architecture::kQwen3, qwen3_traits},
    FactoryEntry{Architecture::kLlamaNsa, llama_nsa_traits},
};

DecoderTraits traits_of(const ModelConfig& config) {
  for (const FactoryEntry& entry : kFactories) {
    if (entry.architecture == config.architecture) {
      return entry.traits(config);
    }
  }
  TORCH_INTERNAL_ASSERT(false, "architecture without a factory");
}

torch::ScalarType held_dtype(const LoadOptions& options) {
  return options.held_dtype.value_or(options.dtype);
}

/// Draws parameters.
class RandomSource : public ParameterSource {
 public:
  RandomSource(const ModelConfig& config, uint64_t seed, const LoadOptions& options)
      : options_(options), random_(at::make_generator<at::CPUGeneratorImpl>(seed)) {
    residual_scale_ = 1.0 / std::sqrt(2.0 * static_cast<double>(config.n_layers));
  }

  Tensor parameter(const std::string& name, at::IntArrayRef shape) override {
    if (shape.size() == 1) {
      return (name.ends_with(".bias") ? torch::zeros(shape) : torch::ones(shape))
          .to(options_.device, held_dtype(options_));
    }
    const bool into_residual =
        name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
    return torch::randn(shape, random_)
        .mul_(into_residual ? kDeviation * residual_scale_ : kDeviation)
        .to(options_.device, held_dtype(options_));
  }

 private:
  static constexpr double kDeviation = 0.02;
  const LoadOptions& options_;
  at::Generator random_;
  double residual_scale_;
};

/// Reads parameters from a checkpoint into memory of their own (the file stays untouched by anyone
/// who writes to them).
class CheckpointSource : public ParameterSource {
 public:
  CheckpointSource(const Checkpoint& checkpoint, const LoadOptions& options)
      : checkpoint_(checkpoint),
        options_(options),
        total_bytes_(parameter_bytes(checkpoint.config(), options.dtype, options.weights)) {}

  Tensor parameter(const std::string& name, at::IntArrayRef shape) override {
    const HostTensor host = checkpoint_.tensor(name);
    const Tensor stored = to_tensor(host);
    TORCH_INTERNAL_ASSERT(stored.sizes() == shape, name, ": ", stored.sizes(), " against ", shape);
    const Tensor loaded =
        stored.to(options_.device, held_dtype(options_), /*non_blocking=*/false, /*copy=*/true);
    leave_to_file(host);
    advance(loaded.nbytes());
    return loaded;
  }

  std::optional<PackedMatrix> packed_matrix(const std::string& name,
                                            at::IntArrayRef shape) override {
    if (options_.weights != WeightKind::kInt8) {
      return std::nullopt;
    }
    const Tensor memory = matrix_memory(PackedMatrix::bytes(shape[0], shape[1]));
    const auto blocks = checkpoint_.int8_blocks(name);
    const HostTensor host = blocks ? *blocks : checkpoint_.tensor(name);
    PackedMatrix packed =
        blocks ? PackedMatrix::from_blocks(host, options_.dtype, memory)
               : PackedMatrix::quantize(to_tensor(host), options_.dtype, name, memory);
    leave_to_file(host);
    TORCH_INTERNAL_ASSERT(packed.n_rows() == shape[0] && packed.n_columns() == shape[1], name);
    advance(memory.nbytes());
    return packed;
  }

 private:
  /// What has been read of a file need not stay in memory beside what was made of it.
  static void leave_to_file(const HostTensor& host) {
    if (host.is_mapped) {
      forget_mapped_pages(host.bytes);
    }
  }

  /// The next bytes of one memory for all matrices.
  Tensor matrix_memory(uint64_t bytes) {
    if (!matrices_.defined()) {
      matrices_ = empty_in_huge_pages(static_cast<int64_t>(total_bytes_));
    }
    const auto size = static_cast<int64_t>(bytes);
    matrix_bytes_ += size;
    return matrices_.narrow(0, matrix_bytes_ - size, size);
  }

  void advance(uint64_t bytes) {
    done_bytes_ += bytes;
    if (options_.progress) {
      options_.progress(static_cast<int64_t>(done_bytes_), static_cast<int64_t>(total_bytes_));
    }
  }

  const Checkpoint& checkpoint_;
  const LoadOptions& options_;
  Tensor matrices_;
  int64_t matrix_bytes_ = 0;  // of matrices_, handed out
  uint64_t done_bytes_ = 0;
  uint64_t total_bytes_;
};

void check_memory(const ModelConfig& config, const LoadOptions& options) {
  if (!options.device.is_cpu()) {
    return;
  }
  const uint64_t needed = parameter_bytes(config, held_dtype(options), options.weights);
  const uint64_t available = available_memory_bytes();
  check(needed <= available,
        "the model's parameters need ",
        format_bytes(needed),
        " as ",
        options.weights == WeightKind::kInt8 ? "8-bit weights" : torch::toString(options.dtype),
        ", and ",
        format_bytes(available),
        " of memory are available; --dtype bf16 halves what f32 needs, --weights int8 quarters it");
}

void check_weight_kind(const LoadOptions& options) {
  if (options.weights == WeightKind::kInt8) {
    check(options.device.is_cpu(), "--weights int8 runs on the CPU, not on ", options.device.str());
    check(options.dtype == torch::kFloat32 || options.dtype == torch::kBFloat16,
          "--weights int8 computes in f32 or bf16, not in ",
          torch::toString(options.dtype));
  }
}

/// Of one tensor. Every matrix is packed, and nothing else.
uint64_t held_bytes(const ExpectedTensor& tensor, torch::ScalarType dtype, WeightKind weights) {
  const uint64_t count = checked_numel(tensor.shape, tensor.name.c_str());
  if (weights == WeightKind::kInt8 && tensor.shape.size() == 2) {
    return PackedMatrix::bytes(tensor.shape[0], tensor.shape[1]);
  }
  return checked_mul(count, torch::elementSize(dtype), "parameters");
}

}  // namespace

uint64_t parameter_count(const ModelConfig& config) {
  uint64_t count = 0;
  for (const ExpectedTensor& tensor : expected_tensors(config)) {
    count = checked_add(count, checked_numel(tensor.shape, tensor.name.c_str()), "parameters");
  }
  return count;
}

uint64_t parameter_bytes(const ModelConfig& config, torch::ScalarType dtype, WeightKind weights) {
  uint64_t bytes = 0;
  for (const ExpectedTensor& tensor : expected_tensors(config)) {
    bytes = checked_add(bytes, held_bytes(tensor, dtype, weights), "parameters");
  }
  return bytes;
}

std::shared_ptr<CausalLM> load_model(const Checkpoint& checkpoint, const LoadOptions& options) {
  check_weight_kind(options);
  check_tensors(checkpoint);
  check_memory(checkpoint.config(), options);
  const torch::NoGradGuard no_grad;
  CheckpointSource source(checkpoint, options);
  const ModelConfig& config = options.config ? *options.config : checkpoint.config();
  return std::make_shared<Decoder>(source, config, traits_of(config), options.dtype);
}

std::shared_ptr<CausalLM> make_random_model(const ModelConfig& config,
                                            uint64_t seed,
                                            const LoadOptions& options) {
  check_memory(config, options);
  const torch::NoGradGuard no_grad;
  RandomSource source(config, seed, options);
  return std::make_shared<Decoder>(source, config, traits_of(config), options.dtype);
}

}  // namespace ssa
