// Between host tensors (files) and LibTorch tensors.
#pragma once

#include <torch/types.h>

#include "checkpoint/host_tensor.h"

namespace ssa {

using torch::Tensor;

/// LibTorch's element type. Throws Error for the unsigned 16-, 32- and 64-bit types.
torch::ScalarType to_scalar_type(DType dtype);
/// The file type of a LibTorch type; throws Error for one that files do not have.
DType to_dtype(torch::ScalarType type);

/// A CPU tensor over the same bytes, which it keeps alive. Read-only: the bytes may be a mapped
/// file.
Tensor to_tensor(const HostTensor& host);

/// The tensor's bytes on the host; shares memory where it is a contiguous CPU tensor, else copies.
HostTensor to_host(const Tensor& tensor);

}  // namespace ssa
