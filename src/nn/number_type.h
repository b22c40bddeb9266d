// From LibTorch's element types to those that the kernels of nn/cpu are made for.
#pragma once

#include <torch/types.h>

#include "nn/cpu/bf16.h"

namespace ssa {

/// True for float32 and bfloat16.
inline bool has_number_type(torch::ScalarType dtype) {
  return dtype == torch::kFloat32 || dtype == torch::kBFloat16;
}

/// Calls fn with a null pointer to the kernels' type for that dtype, one of the two above.
template <class Fn>
auto with_number_type(torch::ScalarType dtype, Fn fn) {
  TORCH_CHECK(has_number_type(dtype), "these kernels compute in Float or BFloat16, not in ", dtype);
  return dtype == torch::kFloat32 ? fn(static_cast<float*>(nullptr))
                                  : fn(static_cast<cpu::BF16*>(nullptr));
}

/// The first number of a tensor of that type; null if it is undefined.
template <class T>
const T* const_data(const torch::Tensor& tensor) {
  return tensor.defined() ? static_cast<const T*>(tensor.const_data_ptr()) : nullptr;
}
template <class T>
T* mutable_data(const torch::Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

}  // namespace ssa
