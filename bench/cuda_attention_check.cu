/// Is window attention right, and how fast is it? One program, of CUDA alone:
///
///   nvcc -O3 -std=c++20 -I. -Isrc -gencode arch=compute_90a,code=sm_90a -o cuda_attention_check \
///     bench/cuda_attention_check.cu src/attention/cuda/*.cu
///   ./cuda_attention_check            checks, then times; exit code 1 if a check fails
///   ./cuda_attention_check --check    checks only
///   ./cuda_attention_check --time     times only
///
/// Inputs are random; outputs are filled with NaN first. The reference is a warp a row, in f32,
/// without tiles. A line's figures are the relative error over everything, and the worst row's:
/// its error over its own norm plus the median row's, so that a few large rows (sinks) cannot hide
/// the others.
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "attention/cuda/window_attention.h"
#include "bench/cuda_check.h"

namespace {

using namespace ssa::cuda;

constexpr double kRowLimit = 5e-2;

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

void check_all_attention() {
  for (const Case& c : attention_cases()) {
    check_attention(c);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, check_all_attention, time_all_attention);
}
