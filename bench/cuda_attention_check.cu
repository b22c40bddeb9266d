/// Is window attention right, and how fast is it? One program, of CUDA alone:
///
///   nvcc -O3 -std=c++20 -I. -Isrc -gencode arch=compute_90a,code=sm_90a -o cuda_attention_check \
///     bench/cuda_attention_check.cu src/attention/cuda/*.cu
///   ./cuda_attention_check            checks, then times; exit code 1 if a check fails
///   ./cuda_attention_check --check    checks only
///   ./cuda_attention_check --time     times only
///
/// Inputs are random (window_case.cuh); outputs are filled with NaN first. The reference is
/// window_reference.cuh. A line's figures are the relative error over everything, and the worst
/// row's: its error over its own norm plus the median row's, so that a few large rows (sinks)
/// cannot hide the others.
#include <algorithm>
#include <cmath>

#include "attention/cuda/window_attention.h"
#include "bench/cuda_check.h"
#include "bench/window_case.cuh"
#include "bench/window_reference.cuh"

namespace {

using namespace ssa::cuda;

constexpr double kRowLimit = 5e-2;

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
