// Gist-mask attention, forward and backward, on a CUDA device: against causal attention by cuDNN
// and against a dense mask. Checks its answer against the dense mask first. Usage:
// gist_mask_attention_bench [raw tokens...]
#include <torch/autograd.h>
#include <torch/cuda.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "attention/gist_mask_attention.h"
#include "attention/gist_mask_batch.h"
#include "gist/interleave.h"

namespace {

using namespace ssa;

struct Heads {
  int64_t n_heads, n_kv_heads, head_dim;
};

/// Milliseconds of one call: median of 12 samples of 5 calls one behind the other, as in training,
/// where launches run ahead of the device.
template <class Fn>
double milliseconds(const Fn& fn) {
  constexpr int kCalls = 5, kSamples = 12;
  std::vector<double> times;
  for (int sample = 0; sample < kSamples + 1; ++sample) {
    torch::cuda::synchronize();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) {
      fn();
    }
    torch::cuda::synchronize();
    const std::chrono::duration<double, std::milli> taken =
        std::chrono::steady_clock::now() - start;
    if (sample > 0) {
      times.push_back(taken.count() / kCalls);
    }
  }
  std::nth_element(times.begin(), times.begin() + kSamples / 2, times.end());
  return times[kSamples / 2];
}

/// All prefix, chunks of 8; uneven: up to 4 tokens longer, as between words (a quarter of them).
GistLayout lay(int64_t n_raw, bool uneven) {
  std::mt19937 random(1);
  GistLayout layout({8}, {1, 2, 3});
  int64_t in_chunk = -3, limit = 8;
  for (int64_t i = 0; i < n_raw; ++i) {
    layout.append_raw(0);
    if (++in_chunk >= limit || i + 1 == n_raw) {
      layout.append_gist(0);
      in_chunk = 0;
      const uint32_t draw = random() % 100;
      limit = 8 + (uneven ? (draw >= 72) + (draw >= 92) + (draw >= 98) + (draw >= 99) : 0);
    }
  }
  return layout;
}

struct Tensors {
  Tensor q, k, v, d_out;
};

/// The two ways: a plan of one layout, or a batch of one sequence.
struct Ways {
  Ways(const GistLayout& layout, double scale_of_scores)
      : plan(to_device(*plan_gist_mask(layout, {}), torch::kCUDA)), scale(scale_of_scores) {
    const LaidSequences one{&layout, 1};
    batch = to_device(*plan_gist_mask_batch({&one, 1}, {}), torch::kCUDA);
  }
  Tensor attend(const Tensors& t, bool as_batch) const {
    return as_batch ? gist_mask_attention(t.q, t.k, t.v, batch, scale)
                    : gist_mask_attention(t.q, t.k, t.v, plan, scale);
  }
  GistMaskPlanPtr plan;
  GistMaskBatchPtr batch;
  double scale;
};

Tensors draw(const Heads& heads, int64_t n, torch::ScalarType dtype) {
  const auto options = torch::dtype(dtype).device(torch::kCUDA);
  const auto random = [&](int64_t n_heads) {
    return torch::randn({n, n_heads, heads.head_dim}, options).requires_grad_(true);
  };
  return {random(heads.n_heads),
          random(heads.n_kv_heads),
          random(heads.n_kv_heads),
          torch::randn({n, heads.n_heads, heads.head_dim}, options)};
}

template <class Fn>
double forward_backward(const Tensors& t, const Fn& attend) {
  return milliseconds([&] { torch::autograd::grad({attend(t)}, {t.q, t.k, t.v}, {t.d_out}); });
}

Tensor by_sdpa(const Tensors& t, const Tensor& mask, double scale) {
  const auto heads = [](const Tensor& x) { return x.transpose(0, 1).unsqueeze(0); };
  const int64_t group = t.q.size(1) / t.k.size(1);
  if (mask.defined()) {
    return torch::scaled_dot_product_attention(heads(t.q),
                                               heads(t.k).repeat_interleave(group, 1),
                                               heads(t.v).repeat_interleave(group, 1),
                                               mask,
                                               0.0,
                                               false,
                                               scale)
        .squeeze(0)
        .transpose(0, 1);
  }
  return std::get<0>(at::_scaled_dot_product_cudnn_attention(
                         heads(t.q), heads(t.k), heads(t.v), {}, true, 0.0, true, false, scale))
      .squeeze(0)
      .transpose(0, 1);
}

double error(const Tensor& a, const Tensor& b) {
  return ((a.to(torch::kFloat32) - b.to(torch::kFloat32)).norm() / b.to(torch::kFloat32).norm())
      .item<double>();
}

void check(const Heads& heads, bool uneven, bool as_batch) {
  const GistLayout layout = lay(2000, uneven);
  const double scale = 1.0 / std::sqrt(static_cast<double>(heads.head_dim));
  const Ways ways(layout, scale);
  const Tensors t = draw(heads, layout.n_tokens(), torch::kBFloat16);
  Tensors wide = t;
  for (Tensor* x : {&wide.q, &wide.k, &wide.v, &wide.d_out}) {
    *x = x->detach().to(torch::kFloat32).requires_grad_(true);
  }
  const int64_t n = layout.n_tokens();
  const Tensor mask = torch::tensor(dense_mask(layout, {}), torch::kUInt8)
                          .view({n, n})
                          .to(torch::kCUDA, torch::kBool);
  const Tensor out = ways.attend(t, as_batch), expected = by_sdpa(wide, mask, scale);
  const auto got = torch::autograd::grad({out}, {t.q, t.k, t.v}, {t.d_out});
  const auto wanted = torch::autograd::grad({expected}, {wide.q, wide.k, wide.v}, {wide.d_out});
  std::printf("check %lld/%lld/%lld %s%s: out %.4f dq %.4f dk %.4f dv %.4f\n",
              static_cast<long long>(heads.n_heads),
              static_cast<long long>(heads.n_kv_heads),
              static_cast<long long>(heads.head_dim),
              uneven ? "word-aware" : "plain",
              as_batch ? ", batch" : "",
              error(out, expected),
              error(got[0], wanted[0]),
              error(got[1], wanted[1]),
              error(got[2], wanted[2]));
  for (const double e : {error(out, expected),
                         error(got[0], wanted[0]),
                         error(got[1], wanted[1]),
                         error(got[2], wanted[2])}) {
    if (!(e < 2e-2)) {
      std::printf("WRONG\n");
      std::exit(1);
    }
  }
}

void measure(const Heads& heads, int64_t n_raw, bool as_batch) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(heads.head_dim));
  double times[2], forward[2];
  for (const bool uneven : {false, true}) {
    const GistLayout layout = lay(n_raw, uneven);
    const Ways ways(layout, scale);
    const Tensors t = draw(heads, layout.n_tokens(), torch::kBFloat16);
    times[uneven] = forward_backward(t, [&](const Tensors& x) { return ways.attend(x, as_batch); });
    const torch::NoGradGuard no_grad;
    forward[uneven] = milliseconds([&] { ways.attend(t, as_batch); });
  }
  const double causal = forward_backward(draw(heads, n_raw, torch::kBFloat16),
                                         [&](const Tensors& x) { return by_sdpa(x, {}, scale); });
  double dense = 0;
  if (n_raw <= 16384) {
    const GistLayout layout = lay(n_raw, false);
    const int64_t n = layout.n_tokens();
    const Tensor mask = torch::tensor(dense_mask(layout, {}), torch::kUInt8)
                            .view({n, n})
                            .to(torch::kCUDA, torch::kBool);
    dense = forward_backward(draw(heads, n, torch::kBFloat16),
                             [&](const Tensors& x) { return by_sdpa(x, mask, scale); });
  }
  std::printf(
      "%lld/%lld/%lld %lld raw%s: ours %.2f ms (forward %.2f), dense mask %.2f (%.1fx), causal "
      "cuDNN "
      "%.2f (%.2fx), word-aware %.2f (%.2f of plain; forward %.2f)\n",
      static_cast<long long>(heads.n_heads),
      static_cast<long long>(heads.n_kv_heads),
      static_cast<long long>(heads.head_dim),
      static_cast<long long>(n_raw),
      as_batch ? ", batch" : "",
      times[0],
      forward[0],
      dense,
      dense / times[0],
      causal,
      causal / times[0],
      times[1],
      times[1] / times[0],
      forward[1]);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int64_t> lengths;
  for (int i = 1; i < argc; ++i) {
    lengths.push_back(std::stoll(argv[i]));
  }
  if (lengths.empty()) {
    lengths = {4096, 16384, 32768};
  }
  const Heads shapes[] = {{28, 4, 128}, {9, 3, 64}};
  for (const Heads& heads : shapes) {
    for (const bool as_batch : {false, true}) {
      check(heads, false, as_batch);
      check(heads, true, as_batch);
      for (const int64_t n : lengths) {
        measure(heads, n, as_batch);
      }
    }
  }
}
