/// What the programs that check CUDA kernels share: arrays on the device, random inputs, times.
/// Included once by each.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace {

using Bf16 = __nv_bfloat16;

constexpr double kWholeLimit = 1e-2;  ///< Largest relative error of bf16 results.
int failures = 0;

void check_cuda(int error, const char* what) {
  if (error != cudaSuccess) {
    std::printf("FAIL %s: %s\n", what, cudaGetErrorString(static_cast<cudaError_t>(error)));
    std::exit(1);
  }
}

template <class T>
class DeviceArray {
 public:
  /// Filled with 0xff: NaN for floats.
  explicit DeviceArray(int64_t size = 0) : size_(size) {
    check_cuda(cudaMalloc(&data_, std::max<int64_t>(size, 1) * sizeof(T)), "cudaMalloc");
    poison();
  }
  explicit DeviceArray(const std::vector<T>& host) : DeviceArray(int64_t(host.size())) {
    check_cuda(cudaMemcpy(data_, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice),
               "copy");
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }

  void poison() { check_cuda(cudaMemset(data_, 0xff, size_ * sizeof(T)), "poison"); }
  std::vector<T> host() const {
    std::vector<T> out(size_);
    check_cuda(cudaMemcpy(out.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), "copy");
    return out;
  }
  T* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  T* data_ = nullptr;
  int64_t size_;
};

__device__ float random_normal(uint64_t seed, int64_t i) {
  uint64_t x = seed * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(i) * 0xbf58476d1ce4e5b9u;
  float sum = 0;
  for (int k = 0; k < 4; ++k) {  // four uniforms: near enough to a normal distribution
    x ^= x >> 30, x *= 0xbf58476d1ce4e5b9u, x ^= x >> 27, x *= 0x94d049bb133111ebu, x ^= x >> 31;
    sum += static_cast<float>(x >> 40) / 16777216.0f - 0.5f;
  }
  return sum * 1.7320508f;
}

__device__ void put(Bf16& to, float x) {
  to = __float2bfloat16(x);
}
__device__ void put(float& to, float x) {
  to = x;
}

template <class T>
__global__ void fill_kernel(T* data, int64_t size, uint64_t seed, float scale) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < size) {
    put(data[i], random_normal(seed, i) * scale);
  }
}

uint64_t next_seed = 1;

template <class T>
void fill_random(const DeviceArray<T>& array, float scale = 1) {
  if (array.size() > 0) {  // no kernel has no blocks
    fill_kernel<T><<<unsigned((array.size() + 255) / 256), 256>>>(
        array.data(), array.size(), next_seed++, scale);
  }
}

/// Milliseconds of `run`, between events: median of 20 after 3.
double median_ms(const std::function<void()>& run) {
  cudaEvent_t start, stop;
  check_cuda(cudaEventCreate(&start), "event");
  check_cuda(cudaEventCreate(&stop), "event");
  for (int i = 0; i < 3; ++i) {
    run();
  }
  std::vector<float> times;
  for (int i = 0; i < 20; ++i) {
    check_cuda(cudaEventRecord(start), "event");
    run();
    check_cuda(cudaEventRecord(stop), "event");
    check_cuda(cudaEventSynchronize(stop), "timed kernels");
    float ms = 0;
    check_cuda(cudaEventElapsedTime(&ms, start, stop), "event");
    times.push_back(ms);
  }
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

/// Checks, then times; `--check` and `--time` do one of them. The exit status: 1 if a check failed.
int run_program(int argc,
                char** argv,
                const std::function<void()>& check,
                const std::function<void()>& time) {
  const std::string only = argc > 1 ? argv[1] : "";
  if (only != "--time") {
    check();
  }
  if (only != "--check") {
    time();
  }
  std::printf(failures == 0 ? "all passed\n" : "%d FAILED\n", failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace
