/// Are the CUDA kernels right, and how fast are they? One program, of CUDA alone:
///
///   nvcc -O3 -std=c++20 -Isrc -gencode arch=compute_90a,code=sm_90a -o cuda_attention_check \
///     bench/cuda_attention_check.cu src/attention/cuda/*.cu src/nn/cuda/*.cu
///   ./cuda_attention_check            checks, then times; exit code 1 if a check fails
///   ./cuda_attention_check --check    checks only
///   ./cuda_attention_check --time     times only
///
/// Inputs are random; outputs are filled with NaN first. The reference is a warp a row, in f32,
/// without tiles. A line's figures are the relative error over everything, and the worst row's:
/// its error over its own norm plus the median row's, so that a few large rows (sinks) cannot hide
/// the others.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "attention/cuda/window_attention.h"
#include "nn/cuda/row_kernels.h"

namespace {

using namespace ssa::cuda;
using Bf16 = __nv_bfloat16;

constexpr double kWholeLimit = 1e-2, kRowLimit = 5e-2;
int failures = 0;

void check_cuda(int error, const char* what) {
  if (error != cudaSuccess) {
    std::printf("FAIL %s: %s\n", what, cudaGetErrorString(static_cast<cudaError_t>(error)));
    std::exit(1);
  }
}

// ------------------------------------------------------------------------------------- device
// memory

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

/// Random log-sum-exps; some rows saw nothing, and their far_out is NaN.
__global__ void far_kernel(
    RowsOf<float> lse, RowsOf<void> out, int heads, int dim, uint64_t seed, bool holes) {
  const int t = blockIdx.x, h = blockIdx.y;
  const float x = random_normal(seed, int64_t{t} * heads + h);
  float value = 2 + 1.5f * x;
  if (holes && (t * 7 + h) % 9 == 0) {
    value = (t + h) % 2 == 0 ? -INFINITY : INFINITY;
    static_cast<Bf16*>(out.data)[t * out.token_stride + h * out.head_stride + threadIdx.x % dim] =
        __float2bfloat16(NAN);
  }
  if (threadIdx.x == 0) {
    lse.data[t * lse.token_stride + h * lse.head_stride] = value;
  }
}

// ------------------------------------------------------------------------------------------
// reference

__device__ const Bf16* at(const HeadRows& rows, int64_t t, int h) {
  return static_cast<const Bf16*>(rows.data) + t * rows.token_stride + h * rows.head_stride;
}

__device__ float dot(const Bf16* a, const Bf16* b, int dim) {
  float sum = 0;
  for (int i = threadIdx.x; i < dim; i += 32) {
    sum += __bfloat162float(a[i]) * __bfloat162float(b[i]);
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  }
  return sum;
}

__device__ int sequence_of(const WindowShape& shape, int t) {
  int s = 0;
  while (shape.offsets[s + 1] <= t) {
    ++s;
  }
  return s;
}

template <class Fn>
__device__ void for_each_key(const WindowShape& shape, int t, const Fn& fn) {
  const int start = shape.offsets[sequence_of(shape, t)], begin = shape.begin[t];
  for (int k = start; k < min(start + shape.sinks, begin); ++k) {
    fn(k);
  }
  for (int k = begin; k <= t; ++k) {
    fn(k);
  }
}

/// A warp a query and head. out: f32, [tokens, query_heads, dim]; lse [tokens, query_heads].
__global__ void reference_forward(WindowForward args, float* out, float* lse) {
  const WindowShape& shape = args.shape;
  const int t = blockIdx.x, h = blockIdx.y, dim = shape.head_dim;
  const int kv = h / (shape.query_heads / shape.kv_heads);
  const Bf16* q = at(args.q, t, h);
  float top = -INFINITY, weight = 0;
  for_each_key(shape, t, [&](int k) {
    const float s = dot(q, at(args.k, k, kv), dim) * shape.scale;
    const float higher = fmaxf(top, s);
    weight = weight * expf(top - higher) + expf(s - higher);
    top = higher;
  });
  float merged = top + logf(weight), far_factor = 0;
  if (args.far_out.data != nullptr) {
    const float far =
        args.far_lse.data[t * args.far_lse.token_stride + h * args.far_lse.head_stride];
    if (isfinite(far)) {
      const float higher = fmaxf(far, merged);
      merged = higher + logf(expf(far - higher) + expf(merged - higher));
      far_factor = expf(far - merged);
    }
  }
  float sum[4] = {};
  for_each_key(shape, t, [&](int k) {
    const float p = expf(dot(q, at(args.k, k, kv), dim) * shape.scale - merged);
    for (int i = 0; i < dim / 32; ++i) {
      sum[i] += p * __bfloat162float(at(args.v, k, kv)[threadIdx.x + 32 * i]);
    }
  });
  const int64_t row = int64_t{t} * shape.query_heads + h;
  for (int i = 0; i < dim / 32; ++i) {
    const int column = threadIdx.x + 32 * i;
    const float far =
        far_factor == 0 ? 0 : far_factor * __bfloat162float(at(args.far_out, t, h)[column]);
    out[row * dim + column] = sum[i] + far;
  }
  if (threadIdx.x == 0) {
    lse[row] = merged;
  }
}

__device__ float lse_of(const WindowBackward& args, int t, int h) {
  return args.lse.data[t * args.lse.token_stride + h * args.lse.head_stride];
}

__global__ void reference_dq(WindowBackward args, float* dq) {
  const WindowShape& shape = args.shape;
  const int t = blockIdx.x, h = blockIdx.y, dim = shape.head_dim;
  const int kv = h / (shape.query_heads / shape.kv_heads);
  const Bf16 *q = at(args.q, t, h), *dout = at(args.dout, t, h);
  const float delta = dot(at(args.out, t, h), dout, dim), lse = lse_of(args, t, h);
  float sum[4] = {};
  for_each_key(shape, t, [&](int k) {
    const float p = expf(dot(q, at(args.k, k, kv), dim) * shape.scale - lse);
    const float ds = p * (dot(dout, at(args.v, k, kv), dim) - delta) * shape.scale;
    for (int i = 0; i < dim / 32; ++i) {
      sum[i] += ds * __bfloat162float(at(args.k, k, kv)[threadIdx.x + 32 * i]);
    }
  });
  for (int i = 0; i < dim / 32; ++i) {
    const int column = threadIdx.x + 32 * i;
    float far = 0;
    if (args.far_dq.data != nullptr) {
      const int64_t place = t * args.far_dq.token_stride + h * args.far_dq.head_stride + column;
      far = args.far_dq_type == RowType::kFloat32
                ? static_cast<const float*>(args.far_dq.data)[place]
                : __bfloat162float(static_cast<const Bf16*>(args.far_dq.data)[place]);
    }
    dq[(int64_t{t} * shape.query_heads + h) * dim + column] = sum[i] + far;
  }
}

__global__ void reference_dkv(WindowBackward args, float* dk, float* dv) {
  const WindowShape& shape = args.shape;
  const int key = blockIdx.x, kv = blockIdx.y, dim = shape.head_dim;
  const int group = shape.query_heads / shape.kv_heads, s = sequence_of(shape, key);
  const bool is_sink = key < shape.offsets[s] + shape.sinks;
  float dk_sum[4] = {}, dv_sum[4] = {};
  for (int t = key; t < shape.offsets[s + 1]; ++t) {
    if (!is_sink && shape.begin[t] > key) {
      break;
    }
    for (int h = kv * group; h < (kv + 1) * group; ++h) {
      const Bf16 *q = at(args.q, t, h), *dout = at(args.dout, t, h);
      const float delta = dot(at(args.out, t, h), dout, dim);
      const float p = expf(dot(q, at(args.k, key, kv), dim) * shape.scale - lse_of(args, t, h));
      const float ds = p * (dot(dout, at(args.v, key, kv), dim) - delta) * shape.scale;
      for (int i = 0; i < dim / 32; ++i) {
        dk_sum[i] += ds * __bfloat162float(q[threadIdx.x + 32 * i]);
        dv_sum[i] += p * __bfloat162float(dout[threadIdx.x + 32 * i]);
      }
    }
  }
  for (int i = 0; i < dim / 32; ++i) {
    const int64_t to = (int64_t{key} * shape.kv_heads + kv) * dim + threadIdx.x + 32 * i;
    dk[to] = dk_sum[i];
    dv[to] = dv_sum[i];
  }
}

// -----------------------------------------------------------------------------------------
// comparison

/// Squares of a row's error and of its reference, which is [tokens, heads, dim].
__global__ void row_errors_kernel(
    RowsOf<void> got, RowType type, const float* expected, int dim, float* errors, float* norms) {
  const int t = blockIdx.x, h = blockIdx.y;
  const int64_t row = int64_t{t} * gridDim.y + h, from = t * got.token_stride + h * got.head_stride;
  float error = 0, norm = 0;
  for (int i = threadIdx.x; i < dim; i += 32) {
    const float a = type == RowType::kFloat32
                        ? static_cast<const float*>(got.data)[from + i]
                        : __bfloat162float(static_cast<const Bf16*>(got.data)[from + i]);
    const float b = expected[row * dim + i];
    error += (a - b) * (a - b);
    norm += b * b;
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    error += __shfl_xor_sync(0xffffffffu, error, distance);
    norm += __shfl_xor_sync(0xffffffffu, norm, distance);
  }
  if (threadIdx.x == 0) {
    errors[row] = error;
    norms[row] = norm;
  }
}

struct Errors {
  double whole = 0, row = 0;
};

Errors errors_of(const std::vector<float>& errors, const std::vector<float>& norms) {
  double error = 0, norm = 0;
  std::vector<float> sorted = norms;
  std::nth_element(sorted.begin(), sorted.begin() + sorted.size() / 2, sorted.end());
  const double median = std::sqrt(sorted[sorted.size() / 2]);
  Errors out;
  for (size_t i = 0; i < errors.size(); ++i) {
    error += errors[i];
    norm += norms[i];
    const double row = std::sqrt(errors[i]) / (std::sqrt(norms[i]) + median + 1e-30);
    out.row = !(row <= out.row) ? row : out.row;  // a NaN stays
    if (std::isnan(row)) {
      return {row, row};
    }
  }
  out.whole = std::sqrt(error / norm);
  return out;
}

Errors compare(const RowsOf<void>& got,
               RowType type,
               const DeviceArray<float>& expected,
               int tokens,
               int heads) {
  const int64_t rows = int64_t{tokens} * heads;
  DeviceArray<float> errors(rows), norms(rows);
  row_errors_kernel<<<dim3(tokens, heads), 32>>>(
      got, type, expected.data(), int(expected.size() / rows), errors.data(), norms.data());
  return errors_of(errors.host(), norms.host());
}

/// Of one number a row, the difference itself is shown: log-sum-exps pass through zero.
double worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(double(a[i]) - b[i]);
    if (!(difference <= worst)) {
      worst = difference;
    }
    if (std::isnan(difference)) {
      return difference;
    }
  }
  return worst;
}

bool passes(const Errors& e) {
  return e.whole <= kWholeLimit && e.row <= kRowLimit;
}

// ------------------------------------------------------------------------------------ attention
// cases

struct Case {
  std::string name;
  int query_heads, kv_heads, dim;
  std::vector<int> lengths;
  int chunk = 8;
  bool word_aware = false;
  int suffix = 0;  ///< Raw tokens behind the last gist of each sequence, as far as it has them.
  int sinks = 3;
  bool far = true, holes = true;
  bool packed = false;  ///< q, k and v side by side in one matrix, and so their gradients.
  RowType far_dq = RowType::kBfloat16, dq = RowType::kBfloat16, dkv = RowType::kBfloat16;
};

/// begin[] as chunks lay it: a token sees its own chunk and the one before.
std::vector<int> window_begins(const Case& c) {
  std::mt19937 random(17);
  std::vector<int> begins;
  int start = 0;
  for (const int length : c.lengths) {
    const int prefix = std::max(0, length - c.suffix);
    int previous = start, own = start;
    for (int left = 0, i = 0; i < length; ++i) {
      if (left == 0 && i < prefix) {
        left = c.chunk + 1 + (c.word_aware ? int(random() % (c.chunk / 2 + 1)) : 0);
        previous = own;
        own = start + i;
      } else if (i == prefix) {
        previous = own;
        left = length;
      }
      begins.push_back(previous);
      --left;
    }
    start += length;
  }
  return begins;
}

/// All buffers of one case.
class Attention {
 public:
  explicit Attention(const Case& c)
      : case_(c),
        tokens_(total(c.lengths)),
        offsets_(running(c.lengths)),
        begins_(window_begins(c)),
        q_(tokens_ * int64_t{c.packed ? c.query_heads + 2 * c.kv_heads : c.query_heads} * c.dim),
        k_(c.packed ? 0 : tokens_ * int64_t{c.kv_heads} * c.dim),
        v_(c.packed ? 0 : tokens_ * int64_t{c.kv_heads} * c.dim),
        dq_(q_.size()),
        dk_(k_.size()),
        dv_(v_.size()),
        out_(query_size()),
        dout_(query_size()),
        far_out_(c.far ? query_size() : 0),
        far_dq_half_(c.far && c.far_dq == RowType::kBfloat16 ? query_size() : 0),
        far_dq_(c.far && c.far_dq == RowType::kFloat32 ? query_size() : 0),
        lse_(tokens_ * int64_t{c.query_heads}),
        far_lse_(lse_.size()) {
    fill_random(q_, c.packed ? 1.3f : 1.6f);
    fill_random(k_);
    fill_random(v_);
    fill_random(dout_);
    shape.tokens = tokens_;
    shape.query_heads = c.query_heads;
    shape.kv_heads = c.kv_heads;
    shape.head_dim = c.dim;
    shape.sequences = int(c.lengths.size());
    shape.sinks = c.sinks;
    shape.scale = 1 / std::sqrt(float(c.dim));
    shape.begin = begins_.data();
    shape.offsets = offsets_.data();
    if (c.far) {
      fill_random(far_out_);
      fill_random(far_dq_half_);
      fill_random(far_dq_);
      const RowsOf<float> far_lse = {far_lse_.data(), 1, tokens_};
      far_kernel<<<dim3(tokens_, c.query_heads), 128>>>(
          far_lse, query_rows(far_out_.data()), c.query_heads, c.dim, next_seed++, c.holes);
    }
    check_cuda(cudaDeviceSynchronize(), "inputs");
  }

  WindowForward forward() const {
    WindowForward args;
    args.shape = shape;
    args.q = input(q_.data(), 0, case_.query_heads);
    args.k =
        case_.packed ? input(q_.data(), case_.query_heads, 0) : input(k_.data(), 0, case_.kv_heads);
    args.v = case_.packed ? input(q_.data(), case_.query_heads + case_.kv_heads, 0)
                          : input(v_.data(), 0, case_.kv_heads);
    if (case_.far) {
      args.far_out = {far_out_.data(), int64_t{case_.query_heads} * case_.dim, case_.dim};
      args.far_lse = {far_lse_.data(), 1, tokens_};
    }
    args.out = query_rows(out_.data());
    args.lse = {lse_.data(), case_.query_heads, 1};
    return args;
  }

  /// With `out` and `lse` of wherever they come from.
  WindowBackward backward(const Bf16* out, const float* lse, void* workspace) const {
    const WindowForward in = forward();
    WindowBackward args;
    args.shape = shape;
    args.q = in.q;
    args.k = in.k;
    args.v = in.v;
    args.out = {out, in.out.token_stride, in.out.head_stride};
    args.dout = {dout_.data(), in.out.token_stride, in.out.head_stride};
    args.lse = {lse, case_.query_heads, 1};
    args.far_dq_type = case_.far_dq;
    if (case_.far) {
      const bool wide = case_.far_dq == RowType::kFloat32;
      args.far_dq = {wide ? static_cast<const void*>(far_dq_.data()) : far_dq_half_.data(),
                     in.out.token_stride,
                     in.out.head_stride};
    }
    const bool packed = case_.packed;
    args.dq = output(dq_.data(), 0, case_.query_heads);
    args.dk =
        output(packed ? dq_.data() : dk_.data(), packed ? case_.query_heads : 0, case_.kv_heads);
    args.dv = output(packed ? dq_.data() : dv_.data(),
                     packed ? case_.query_heads + case_.kv_heads : 0,
                     case_.kv_heads);
    args.dq_type = case_.dq;
    args.dkv_type = case_.dkv;
    args.workspace = workspace;
    return args;
  }

  void poison_outputs() { out_.poison(), lse_.poison(), dq_.poison(), dk_.poison(), dv_.poison(); }

  WindowShape shape;
  const Bf16* out() const { return out_.data(); }
  const DeviceArray<float>& lse() const { return lse_; }
  int64_t query_size() const { return tokens_ * int64_t{case_.query_heads} * case_.dim; }
  int64_t key_size() const { return tokens_ * int64_t{case_.kv_heads} * case_.dim; }

 private:
  static int total(const std::vector<int>& lengths) { return running(lengths).back(); }
  static std::vector<int> running(const std::vector<int>& lengths) {
    std::vector<int> out = {0};
    for (const int n : lengths) {
      out.push_back(out.back() + n);
    }
    return out;
  }
  int64_t row_size(int heads) const {
    return int64_t{case_.packed ? case_.query_heads + 2 * case_.kv_heads : heads} * case_.dim;
  }
  HeadRows input(const Bf16* data, int first_head, int heads) const {
    return {data + first_head * case_.dim, row_size(heads), case_.dim};
  }
  /// Gradients have room for f32, whatever their type.
  MutableHeadRows output(float* data, int first_head, int heads) const {
    const RowType type = heads == case_.query_heads && first_head == 0 ? case_.dq : case_.dkv;
    char* base = reinterpret_cast<char*>(data);
    const int64_t bytes = type == RowType::kFloat32 ? 4 : 2;
    return {base + first_head * case_.dim * bytes, row_size(heads), case_.dim};
  }
  MutableHeadRows query_rows(Bf16* data) const {
    return {data, int64_t{case_.query_heads} * case_.dim, case_.dim};
  }

  Case case_;
  int tokens_;
  DeviceArray<int> offsets_, begins_;
  DeviceArray<Bf16> q_, k_, v_;
  DeviceArray<float> dq_, dk_, dv_;
  DeviceArray<Bf16> out_, dout_, far_out_, far_dq_half_;
  DeviceArray<float> far_dq_, lse_, far_lse_;
};

__global__ void to_bf16_kernel(const float* from, Bf16* to, int64_t size) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < size) {
    to[i] = __float2bfloat16(from[i]);
  }
}

/// Runs the backward pass twice: the second must give the same bits.
bool same_bits(const std::function<void()>& run, const MutableHeadRows& rows, int64_t bytes) {
  std::vector<char> first(bytes), second(bytes);
  run();
  check_cuda(cudaMemcpy(first.data(), rows.data, bytes, cudaMemcpyDeviceToHost), "copy");
  run();
  check_cuda(cudaMemcpy(second.data(), rows.data, bytes, cudaMemcpyDeviceToHost), "copy");
  return first == second;
}

void check_attention(const Case& c) {
  Attention a(c);
  const int tokens = a.shape.tokens;
  DeviceArray<float> out(a.query_size()), lse(int64_t{tokens} * c.query_heads);
  reference_forward<<<dim3(tokens, c.query_heads), 32>>>(a.forward(), out.data(), lse.data());
  check_cuda(cudaDeviceSynchronize(), "reference forward");
  a.poison_outputs();
  check_cuda(window_forward(a.forward(), nullptr), "window_forward");
  check_cuda(cudaDeviceSynchronize(), "window_forward");
  const Errors e_out = compare(a.forward().out, RowType::kBfloat16, out, tokens, c.query_heads);
  const double e_lse = worst_difference(a.lse().host(), lse.host());

  DeviceArray<Bf16> rounded(out.size());
  to_bf16_kernel<<<unsigned((out.size() + 255) / 256), 256>>>(
      out.data(), rounded.data(), out.size());
  DeviceArray<char> workspace(window_backward_workspace(a.shape));
  const WindowBackward args = a.backward(rounded.data(), lse.data(), workspace.data());
  DeviceArray<float> dq(a.query_size()), dk(a.key_size()), dv(a.key_size());
  reference_dq<<<dim3(tokens, c.query_heads), 32>>>(args, dq.data());
  reference_dkv<<<dim3(tokens, c.kv_heads), 32>>>(args, dk.data(), dv.data());
  check_cuda(cudaDeviceSynchronize(), "reference backward");
  a.poison_outputs();
  const auto run = [&] {
    check_cuda(window_backward(args, nullptr), "window_backward");
    check_cuda(cudaDeviceSynchronize(), "window_backward");
  };
  const bool same = c.packed || same_bits(run, args.dk, 2 * a.key_size());
  workspace.poison();
  a.poison_outputs();
  run();
  const Errors e_dq = compare(args.dq, c.dq, dq, tokens, c.query_heads);
  const Errors e_dk = compare(args.dk, c.dkv, dk, tokens, c.kv_heads);
  const Errors e_dv = compare(args.dv, c.dkv, dv, tokens, c.kv_heads);
  const bool pass =
      passes(e_out) && e_lse <= 1e-2 && passes(e_dq) && passes(e_dk) && passes(e_dv) && same;
  failures += !pass;
  std::printf("%s %-34s out %.1e %.1e  lse %.1e  dq %.1e %.1e  dk %.1e %.1e  dv %.1e %.1e%s\n",
              pass ? "PASS" : "FAIL",
              c.name.c_str(),
              e_out.whole,
              e_out.row,
              e_lse,
              e_dq.whole,
              e_dq.row,
              e_dk.whole,
              e_dk.row,
              e_dv.whole,
              e_dv.row,
              same ? "" : "  dk differs between two runs");
}

std::vector<Case> attention_cases() {
  constexpr RowType kHalf = RowType::kBfloat16, kFloat = RowType::kFloat32;
  std::vector<Case> cases = {
      {"one tile, no sinks, near alone", 1, 1, 64, {64}, 8, false, 0, 0, false},
      {"one tile, no sinks, near alone", 1, 1, 128, {64}, 8, false, 0, 0, false},
      {"1 token", 3, 1, 64, {1}, 8, false, 0, 3, true},
      {"15 tokens", 3, 1, 128, {15}, 8, false, 0, 3, true},
      {"67 tokens", 3, 1, 64, {67}, 8, false, 0, 3, true},
      {"1000 tokens, no far part", 9, 3, 64, {1000}, 8, false, 0, 3, false},
      {"1000 tokens, no far part", 28, 4, 128, {1000}, 8, false, 0, 3, false},
      {"1000 tokens, far without holes", 28, 4, 128, {1000}, 8, false, 0, 3, true, false},
      {"1000 tokens, no sinks", 28, 4, 128, {1000}, 8, true, 0, 0},
      {"sixteen sinks", 6, 2, 64, {900}, 8, true, 0, 16},
      {"nine sinks", 7, 1, 128, {900}, 8, true, 0, 9},
      {"word-aware, several sequences", 28, 4, 128, {333, 1, 64, 500, 17, 1023}, 8, true, 0, 3},
      {"word-aware, several sequences", 9, 3, 64, {333, 1, 64, 500, 17, 1023}, 8, true, 0, 3},
      {"chunks of 16", 14, 2, 128, {2000, 777}, 16, true, 0, 3},
      {"chunks of 32 (streamed)", 14, 2, 128, {2000, 777}, 32, true, 0, 3},
      {"chunks of 40 (streamed)", 6, 2, 64, {1999}, 40, true, 0, 3},
      {"suffix 100", 9, 3, 64, {800, 900}, 8, true, 100, 3},
      {"suffix 100", 28, 4, 128, {800, 900}, 8, true, 100, 3},
      {"suffix 2048", 3, 1, 64, {3000}, 8, true, 2048, 3},
      {"suffix 2048", 7, 1, 128, {3000, 2500}, 8, true, 2048, 3},
      {"all suffix: causal", 2, 2, 128, {1500}, 8, false, 1500, 3, false},
      {"G = 1", 4, 4, 128, {1200}, 8, true, 50, 3},
      {"G = 1", 4, 4, 64, {1200}, 8, true, 50, 3},
  };
  Case packed = {"q, k, v in one matrix", 28, 4, 128, {1100, 70}, 8, true, 30, 3};
  packed.packed = true;
  cases.push_back(packed);
  Case wide = {"gradients f32", 28, 4, 128, {1100, 70}, 8, true, 30, 3};
  wide.far_dq = wide.dq = wide.dkv = kFloat;
  cases.push_back(wide);
  wide.name = "far dq f32, dq bf16, dkv f32";
  wide.query_heads = 9, wide.kv_heads = 3, wide.dim = 64, wide.dq = kHalf;
  cases.push_back(wide);
  std::vector<int> many(150, 7);  // many sequences in a block, and more of them than threads in one
  cases.push_back({"150 sequences of 7", 3, 1, 64, many, 2, false, 2, 3});
  return cases;
}

// ------------------------------------------------------------------------------------------ row
// kernels

std::vector<float> random_floats(size_t n, unsigned seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> out(n);
  for (float& x : out) {
    x = __bfloat162float(__float2bfloat16(normal(random)));
  }
  return out;
}

std::vector<Bf16> bf16(const std::vector<float>& from) {
  std::vector<Bf16> out;
  for (const float x : from) {
    out.push_back(__float2bfloat16(x));
  }
  return out;
}

std::vector<float> floats(const std::vector<Bf16>& from) {
  std::vector<float> out;
  for (const Bf16 x : from) {
    out.push_back(__bfloat162float(x));
  }
  return out;
}

void report(const std::string& name,
            const std::vector<float>& got,
            const std::vector<double>& expected) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += (got[i] - expected[i]) * (got[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  const double relative = std::sqrt(error / norm);
  const bool pass = relative <= kWholeLimit && got.size() == expected.size();
  failures += !pass;
  std::printf("%s %-34s %.1e\n", pass ? "PASS" : "FAIL", name.c_str(), relative);
}

void finish(int error, const char* what) {
  check_cuda(error, what);
  check_cuda(cudaDeviceSynchronize(), what);
}

/// x lies as the first heads of wider rows; both directions, in place and not, both kinds of table.
void check_rotary(int tokens, int heads, int dim, bool float_tables, bool inverse, bool in_place) {
  const int64_t row = int64_t{heads + 2} * dim;
  const std::vector<float> x = random_floats(tokens * row, 3);
  std::vector<float> cos(int64_t{tokens} * dim), sin(cos.size());
  for (int t = 0; t < tokens; ++t) {
    for (int i = 0; i < dim; ++i) {
      const double angle = t * std::pow(10000.0, -2.0 * (i % (dim / 2)) / dim);
      cos[int64_t{t} * dim + i] = __bfloat162float(__float2bfloat16(float(std::cos(angle))));
      sin[int64_t{t} * dim + i] = __bfloat162float(__float2bfloat16(float(std::sin(angle))));
    }
  }
  DeviceArray<Bf16> d_x(bf16(x)), d_cos(bf16(cos)), d_sin(bf16(sin));
  DeviceArray<Bf16> d_out(int64_t{tokens} * heads * dim);
  DeviceArray<float> f_cos(cos), f_sin(sin);
  Rotary args;
  args.x = d_x.data(), args.x_token_stride = row, args.x_head_stride = dim;
  args.out = in_place ? d_x.data() : d_out.data();
  args.out_token_stride = in_place ? row : int64_t{heads} * dim, args.out_head_stride = dim;
  args.cos = float_tables ? static_cast<const void*>(f_cos.data()) : d_cos.data();
  args.sin = float_tables ? static_cast<const void*>(f_sin.data()) : d_sin.data();
  args.tables_are_float = float_tables, args.inverse = inverse;
  args.tokens = tokens, args.heads = heads, args.head_dim = dim;
  finish(rotate_halves(args, nullptr), "rotate_halves");
  const std::vector<float> all = floats(in_place ? d_x.host() : d_out.host());
  std::vector<float> got;
  std::vector<double> expected;
  for (int t = 0; t < tokens; ++t) {
    for (int i = 0; i < (in_place ? heads + 2 : heads) * dim; ++i) {
      const int h = i / dim, at = i % dim;
      const float* from = &x[t * row + h * dim];
      const double partner = at < dim / 2 ? -from[at + dim / 2] : from[at - dim / 2];
      const double turn = inverse ? -1 : 1;
      const double turned =
          from[at] * double(cos[t * dim + at]) + turn * partner * sin[t * dim + at];
      got.push_back(all[t * args.out_token_stride + i]);
      expected.push_back(h < heads ? turned : from[at]);
    }
  }
  report(std::string("rotary d=") + std::to_string(dim) + (float_tables ? " f32" : " bf16") +
             (inverse ? " inverse" : "") + (in_place ? " in place" : ""),
         got,
         expected);
}

void check_silu(int rows, int columns) {
  const size_t n = size_t(rows) * columns;
  const std::vector<float> both = random_floats(2 * n, 5, 2), dout = random_floats(n, 6);
  DeviceArray<Bf16> d_both(bf16(both)), d_dout(bf16(dout)), d_out(n), d_gradients(2 * n);
  SiluTimes args;
  args.gate = d_both.data(), args.up = d_both.data() + columns;
  args.gate_stride = args.up_stride = 2 * columns;
  args.out = d_out.data(), args.rows = rows, args.columns = columns;
  finish(silu_times(args, nullptr), "silu_times");
  SiluTimesBackward back;
  back.gate = args.gate, back.up = args.up, back.gate_stride = back.up_stride = 2 * columns;
  back.dout = d_dout.data();
  back.dgate = d_gradients.data(), back.dup = d_gradients.data() + columns;
  back.dgate_stride = back.dup_stride = 2 * columns, back.rows = rows, back.columns = columns;
  finish(silu_times_backward(back, nullptr), "silu_times_backward");
  std::vector<double> out(n), gradients(2 * n);
  for (size_t i = 0; i < n; ++i) {
    const size_t at = i / columns * 2 * columns + i % columns;
    const double g = both[at], up = both[at + columns], s = 1 / (1 + std::exp(-g));
    out[i] = g * s * up;
    gradients[at] = dout[i] * up * (s + g * s * (1 - s));
    gradients[at + columns] = dout[i] * g * s;
  }
  const std::string size = " " + std::to_string(rows) + " x " + std::to_string(columns);
  report("silu_times" + size, floats(d_out.host()), out);
  report("silu_times backward" + size, floats(d_gradients.host()), gradients);
}

void check_norm(int rows, int columns, bool residual) {
  const size_t n = size_t(rows) * columns;
  const std::vector<float> x = random_floats(n, 7), y = random_floats(n, 8),
                           w = random_floats(columns, 9);
  const std::vector<float> dout = random_floats(n, 10), dsum = random_floats(n, 11);
  DeviceArray<Bf16> d_x(bf16(x)), d_y(bf16(y)), d_w(bf16(w)), d_dout(bf16(dout)),
      d_dsum(bf16(dsum));
  DeviceArray<Bf16> d_sum(n), d_out(n), d_dx(n);
  DeviceArray<float> inverse(rows), dweight(columns);
  DeviceArray<char> workspace(add_rms_norm_workspace(rows, columns));
  AddNorm args;
  args.x = d_x.data(), args.residual = residual ? d_y.data() : nullptr, args.weight = d_w.data();
  args.sum = residual ? d_sum.data() : nullptr, args.out = d_out.data();
  args.inverse_rms = inverse.data(), args.eps = 1e-5f, args.rows = rows, args.columns = columns;
  finish(add_rms_norm(args, nullptr), "add_rms_norm");
  AddNormBackward back;
  back.sum = residual ? d_sum.data() : d_x.data(), back.weight = d_w.data();
  back.inverse_rms = inverse.data(), back.dout = d_dout.data();
  back.dsum = residual ? d_dsum.data() : nullptr, back.dx = d_dx.data(),
  back.dweight = dweight.data();
  back.workspace = workspace.data(), back.rows = rows, back.columns = columns;
  finish(add_rms_norm_backward(back, nullptr), "add_rms_norm_backward");
  std::vector<double> sum(n), out(n), dx(n), dw(columns);
  for (int r = 0; r < rows; ++r) {
    double squares = 0, product = 0;
    for (int c = 0; c < columns; ++c) {
      const size_t i = size_t(r) * columns + c;
      sum[i] = residual ? __bfloat162float(__float2bfloat16(x[i] + y[i])) : x[i];
      squares += sum[i] * sum[i];
    }
    const double scale = 1 / std::sqrt(squares / columns + 1e-5);
    for (int c = 0; c < columns; ++c) {
      const size_t i = size_t(r) * columns + c;
      out[i] = w[c] * sum[i] * scale;
      dw[c] += dout[i] * sum[i] * scale;
      product += dout[i] * w[c] * sum[i] * scale;
    }
    for (int c = 0; c < columns; ++c) {
      const size_t i = size_t(r) * columns + c;
      dx[i] =
          (residual ? dsum[i] : 0) + scale * (dout[i] * w[c] - sum[i] * scale * product / columns);
    }
  }
  const std::string size =
      (residual ? " " : " alone ") + std::to_string(rows) + " x " + std::to_string(columns);
  if (residual) {
    report("sum" + size, floats(d_sum.host()), sum);
  }
  report("norm" + size, floats(d_out.host()), out);
  report("norm backward dx" + size, floats(d_dx.host()), dx);
  report("norm backward dweight" + size, dweight.host(), dw);
}

void check_rows() {
  for (int i = 0; i < 8; ++i) {
    check_rotary(131, 5, i % 2 == 0 ? 64 : 128, (i & 1) != 0, (i & 2) != 0, (i & 4) != 0);
  }
  check_silu(57, 1536);
  check_silu(3, 18944);
  for (const int columns : {384, 576, 1024, 1536, 2048, 3584, 8192}) {
    check_norm(columns == 384 ? 3001 : 301, columns, columns % 3 != 1);
  }
}

// ----------------------------------------------------------------------------------------------
// timing

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

void time_attention(const Case& c) {
  Attention a(c);
  DeviceArray<char> workspace(window_backward_workspace(a.shape));
  const WindowForward forward = a.forward();
  const double forward_ms =
      median_ms([&] { check_cuda(window_forward(forward, nullptr), "window_forward"); });
  const WindowBackward backward = a.backward(a.out(), a.lse().data(), workspace.data());
  const double backward_ms =
      median_ms([&] { check_cuda(window_backward(backward, nullptr), "window_backward"); });
  // Least bytes. Forward: q, far, out, k, v. Backward: q, out, dout, far dq, dq, k, v, dk, dv.
  const double forward_bytes = 2.0 * (3 * a.query_size() + 2 * a.key_size());
  const double backward_bytes = 2.0 * (5 * a.query_size() + 4 * a.key_size());
  std::printf("TIME %-34s forward %.3f ms (%.2f TB/s)  backward %.3f ms (%.2f TB/s)\n",
              c.name.c_str(),
              forward_ms,
              forward_bytes / forward_ms * 1e-9,
              backward_ms,
              backward_bytes / backward_ms * 1e-9);
}

void time_all_attention() {
  for (const int tokens : {16384, 32768}) {
    for (const bool word_aware : {false, true}) {
      const std::string name =
          std::to_string(tokens / 1024) + "K " + (word_aware ? "word-aware " : "");
      time_attention({name + "28/4/128", 28, 4, 128, {tokens}, 8, word_aware, 0, 3, true, false});
      time_attention({name + "9/3/64", 9, 3, 64, {tokens}, 8, word_aware, 0, 3, true, false});
    }
  }
  time_attention({"16K c=16 28/4/128", 28, 4, 128, {16384}, 16, false, 0, 3, true, false});
  time_attention({"16K c=32 28/4/128", 28, 4, 128, {16384}, 32, false, 0, 3, true, false});
  time_attention({"16K suffix 512 28/4/128", 28, 4, 128, {16384}, 8, false, 512, 3, true, false});
  time_attention({"16K suffix 2048 28/4/128", 28, 4, 128, {16384}, 8, false, 2048, 3, true, false});
  time_attention(
      {"4 x 4K suffix 256 9/3/64", 9, 3, 64, {4096, 4096, 4096, 4096}, 8, false, 256, 3});
}

void print_time(const char* name, double ms, double bytes) {
  std::printf("TIME %-34s %.3f ms (%.2f TB/s)\n", name, ms, bytes / ms * 1e-9);
}

void time_rows() {
  const int64_t rows = 16384, columns = 3584, wide = 18944;
  const double row_bytes = 2.0 * rows * columns, wide_bytes = 2.0 * rows * wide;
  DeviceArray<Bf16> gate(rows * wide), up(rows * wide), out(rows * wide), dgate(rows * wide),
      dup(rows * wide);
  fill_random(gate), fill_random(up), fill_random(out);
  DeviceArray<float> cos(rows * 128), sin(rows * 128), inverse(rows), dweight(columns);
  fill_random(cos), fill_random(sin), fill_random(inverse);
  DeviceArray<char> workspace(add_rms_norm_workspace(rows, columns));
  Rotary rotary{gate.data(),
                columns,
                128,
                up.data(),
                columns,
                128,
                cos.data(),
                sin.data(),
                true,
                false,
                int(rows),
                28,
                128};
  print_time("rotary 16K x 28 x 128",
             median_ms([&] { check_cuda(rotate_halves(rotary, nullptr), "rotary"); }),
             2 * row_bytes);
  SiluTimes silu{gate.data(), up.data(), wide, wide, out.data(), rows, wide};
  print_time("silu_times 16K x 18944",
             median_ms([&] { check_cuda(silu_times(silu, nullptr), "silu"); }),
             3 * wide_bytes);
  SiluTimesBackward silu_back{gate.data(),
                              up.data(),
                              wide,
                              wide,
                              out.data(),
                              dgate.data(),
                              dup.data(),
                              wide,
                              wide,
                              rows,
                              wide};
  print_time("silu_times backward 16K x 18944",
             median_ms([&] { check_cuda(silu_times_backward(silu_back, nullptr), "silu"); }),
             5 * wide_bytes);
  AddNorm norm{gate.data(),
               up.data(),
               out.data(),
               dgate.data(),
               dup.data(),
               inverse.data(),
               1e-5f,
               rows,
               int(columns)};
  print_time("add_rms_norm 16K x 3584",
             median_ms([&] { check_cuda(add_rms_norm(norm, nullptr), "norm"); }),
             4 * row_bytes);
  AddNormBackward back;
  back.sum = gate.data(), back.weight = out.data(), back.inverse_rms = inverse.data();
  back.dout = up.data(), back.dsum = out.data(), back.dx = dgate.data(),
  back.dweight = dweight.data();
  back.workspace = workspace.data(), back.rows = rows, back.columns = int(columns);
  print_time("add_rms_norm backward 16K x 3584",
             median_ms([&] { check_cuda(add_rms_norm_backward(back, nullptr), "norm"); }),
             4 * row_bytes);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string only = argc > 1 ? argv[1] : "";
  if (only != "--time") {
    check_rows();
    for (const Case& c : attention_cases()) {
      check_attention(c);
    }
  }
  if (only != "--check") {
    time_rows();
    time_all_attention();
  }
  std::printf(failures == 0 ? "all passed\n" : "%d FAILED\n", failures);
  return failures == 0 ? 0 : 1;
}
