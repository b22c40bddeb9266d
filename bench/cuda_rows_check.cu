/// Are the row kernels right, and how fast are they? One program, of CUDA alone:
///
///   nvcc -O3 -std=c++20 -I. -Isrc -gencode arch=compute_90a,code=sm_90a -o cuda_rows_check \
///     bench/cuda_rows_check.cu src/nn/cuda/*.cu
///   ./cuda_rows_check            checks, then times; exit code 1 if a check fails
///   ./cuda_rows_check --check    checks only
///   ./cuda_rows_check --time     times only
///
/// Inputs are random; outputs are filled with NaN first. The reference is computed on the host, in
/// f64.
#include <cmath>
#include <random>

#include "bench/cuda_check.h"
#include "nn/cuda/row_kernels.h"

namespace {

using namespace ssa::cuda;

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
  AddNorm norm;
  norm.x = gate.data(), norm.residual = up.data(), norm.weight = out.data();
  norm.sum = dgate.data(), norm.out = dup.data(), norm.inverse_rms = inverse.data();
  norm.eps = 1e-5f, norm.rows = rows, norm.columns = int(columns);
  print_time("add_rms_norm 16K x 3584",
             median_ms([&] { check_cuda(add_rms_norm(norm, nullptr), "norm"); }),
             4 * row_bytes);
  AddNormBackward back;
  back.sum = gate.data(), back.weight = out.data(), back.inverse_rms = inverse.data();
  back.dout = up.data(), back.dsum = out.data(), back.dx = dgate.data();
  back.dweight = dweight.data(), back.workspace = workspace.data();
  back.rows = rows, back.columns = int(columns);
  print_time("add_rms_norm backward 16K x 3584",
             median_ms([&] { check_cuda(add_rms_norm_backward(back, nullptr), "norm"); }),
             4 * row_bytes);
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, check_rows, time_rows);
}
