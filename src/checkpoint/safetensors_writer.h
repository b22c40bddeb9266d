// Writing safetensors files, one tensor in memory at a time.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/host_tensor.h"

namespace ssa {

struct NamedTensor {
  std::string name;
  HostTensor tensor;
};

/// What a tensor will be, known before its bytes are made.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
};

/// Makes the tensor of a spec; called once for each.
using TensorSource = std::function<HostTensor(const TensorSpec&)>;

using SafetensorsMetadata = std::map<std::string, std::string>;

/// What PyTorch's loaders ask for.
inline const SafetensorsMetadata kPytorchMetadata = {{"format", "pt"}};

/// Bytes that the tensor takes. Throws Error naming it on overflow.
uint64_t spec_bytes(const TensorSpec& spec);

/// Writes one file atomically. The header is padded so that every tensor is aligned to its
/// elements. Throws Error if the file cannot be written, a name repeats or is "__metadata__", or
/// `source` returns another type or shape than the spec says.
void write_safetensors(const std::filesystem::path& path,
                       std::vector<TensorSpec> specs,
                       const TensorSource& source,
                       const SafetensorsMetadata& metadata = kPytorchMetadata);

/// The same for tensors that are at hand.
void write_safetensors(const std::filesystem::path& path,
                       const std::vector<NamedTensor>& tensors,
                       const SafetensorsMetadata& metadata = kPytorchMetadata);

/// Writes `folder`/model.safetensors, or if the tensors take more than `shard_bytes`,
/// model-0000X-of-0000N.safetensors of at most that size each (more only for a single larger
/// tensor), and model.safetensors.index.json.
void write_safetensors_shards(const std::filesystem::path& folder,
                              const std::vector<TensorSpec>& specs,
                              const TensorSource& source,
                              uint64_t shard_bytes);

}  // namespace ssa
