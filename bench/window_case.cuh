/// Cases of window attention: shapes, and buffers on the device full of random numbers. Included
/// once by the program that checks the kernels.
#pragma once

#include <cmath>
#include <random>

#include "attention/cuda/window_attention.h"
#include "bench/cuda_check.h"

namespace {

using namespace ssa::cuda;

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

}  // namespace
