#include "tensor/convert.h"

#include <gtest/gtest.h>

#include <cstring>

#include "support/expect_error.h"

namespace ssa {
namespace {

TEST(TensorConvert, EveryTypeGoesThereAndBack) {
  for (const auto type : {torch::kFloat64,
                          torch::kFloat32,
                          torch::kFloat16,
                          torch::kBFloat16,
                          torch::kInt64,
                          torch::kInt32,
                          torch::kInt16,
                          torch::kInt8,
                          torch::kUInt8,
                          torch::kBool}) {
    const Tensor tensor = torch::arange(6).view({2, 3}).to(type);
    const HostTensor host = to_host(tensor);
    EXPECT_EQ(to_scalar_type(host.dtype), type);
    EXPECT_EQ(host.shape, std::vector<int64_t>({2, 3}));
    EXPECT_EQ(host.bytes.size(), tensor.nbytes());
    const Tensor back = to_tensor(host);
    EXPECT_EQ(back.scalar_type(), type);
    EXPECT_TRUE(torch::equal(back, tensor)) << torch::toString(type);
  }
}

TEST(TensorConvert, TypesWithoutACounterpartAreNamed) {
  expect_error([] { to_scalar_type(DType::kU16); }, "U16");
  expect_error([] { to_dtype(torch::kComplexFloat); }, "ComplexFloat");
}

TEST(TensorConvert, SharesMemoryAndKeepsItAlive) {
  HostTensor host;
  const void* data = nullptr;
  {
    const Tensor tensor = torch::arange(4, torch::kFloat32);
    data = tensor.const_data_ptr();
    host = to_host(tensor);
  }
  EXPECT_EQ(static_cast<const void*>(host.bytes.data()), data);
  Tensor tensor = to_tensor(host);
  host = {};
  EXPECT_EQ(tensor.const_data_ptr(), data);
  EXPECT_TRUE(torch::equal(tensor, torch::arange(4, torch::kFloat32)));
}

TEST(TensorConvert, ViewsAreStoredInTheirOwnOrder) {
  const Tensor transposed = torch::arange(6, torch::kInt32).view({2, 3}).t();
  const HostTensor host = to_host(transposed);
  EXPECT_EQ(host.shape, std::vector<int64_t>({3, 2}));
  const std::array<int32_t, 6> expected = {0, 3, 1, 4, 2, 5};
  ASSERT_EQ(host.bytes.size(), sizeof expected);
  EXPECT_EQ(std::memcmp(host.bytes.data(), expected.data(), sizeof expected), 0);
}

TEST(TensorConvert, ScalarsAndEmptyTensors) {
  EXPECT_EQ(to_tensor(to_host(torch::tensor(2.5))).item<double>(), 2.5);
  EXPECT_EQ(to_tensor(to_host(torch::empty({0, 3}))).sizes(), at::IntArrayRef({0, 3}));
}

TEST(TensorConvert, ParametersWithGradientsCanBeStored) {
  const Tensor tensor = torch::ones({2}, torch::requires_grad());
  EXPECT_EQ(to_host(tensor).bytes.size(), 2 * sizeof(float));
}

}  // namespace
}  // namespace ssa
