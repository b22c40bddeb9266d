// Whether kernels of our own run on CUDA devices.
#pragma once

#include <cstdlib>
#include <string_view>

struct CUstream_st;

namespace ssa {

/// Where they are built in (SSA_HAVE_CUDA_KERNELS), unless the environment variable
/// SSA_CUDA_KERNELS is 0: LibTorch's operations then do all, which is slower and helps to find a
/// fault. Read once.
inline bool uses_cuda_kernels() {
#ifdef SSA_HAVE_CUDA_KERNELS
  static const bool uses = [] {
    const char* set = std::getenv("SSA_CUDA_KERNELS");
    return set == nullptr || std::string_view(set) != "0";
  }();
  return uses;
#else
  return false;
#endif
}

/// The stream that kernels run in: LibTorch's default one. The program sets no other.
inline constexpr CUstream_st* kCudaStream = nullptr;

}  // namespace ssa
