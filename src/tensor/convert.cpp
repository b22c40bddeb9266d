#include "tensor/convert.h"

#include <array>
#include <utility>

#include "base/error.h"

namespace ssa {
namespace {

constexpr std::array<std::pair<DType, torch::ScalarType>, 10> kTypes = {{
    {DType::kF64, torch::kFloat64},
    {DType::kF32, torch::kFloat32},
    {DType::kF16, torch::kFloat16},
    {DType::kBF16, torch::kBFloat16},
    {DType::kI64, torch::kInt64},
    {DType::kI32, torch::kInt32},
    {DType::kI16, torch::kInt16},
    {DType::kI8, torch::kInt8},
    {DType::kU8, torch::kUInt8},
    {DType::kBool, torch::kBool},
}};

}  // namespace

torch::ScalarType to_scalar_type(DType dtype) {
  for (const auto& [file, type] : kTypes) {
    if (file == dtype) {
      return type;
    }
  }
  fail("tensors of type ", dtype_name(dtype), " cannot be computed with");
}

DType to_dtype(torch::ScalarType type) {
  for (const auto& [file, candidate] : kTypes) {
    if (candidate == type) {
      return file;
    }
  }
  fail("tensors of type ", torch::toString(type), " cannot be stored");
}

Tensor to_tensor(const HostTensor& host) {
  auto* data = const_cast<std::byte*>(host.bytes.data());  // LibTorch has no read-only tensors
  const auto keep_alive = [owner = host.owner](void*) {};
  return torch::from_blob(
      data, host.shape, keep_alive, torch::TensorOptions().dtype(to_scalar_type(host.dtype)));
}

HostTensor to_host(const Tensor& tensor) {
  const auto held = std::make_shared<Tensor>(tensor.detach().to(torch::kCPU).contiguous());
  const auto* data = static_cast<const std::byte*>(held->const_data_ptr());
  return {to_dtype(held->scalar_type()), held->sizes().vec(), {data, held->nbytes()}, held};
}

}  // namespace ssa
