// RowKernels for the instruction set of the including file (see lanes.h).
#pragma once

#include <cmath>

#include "nn/cpu/lanes.h"
#include "nn/cpu/row_kernels.h"

namespace ssa::cpu {
namespace {

template <class T>
void rms_norm(const T* x, const T* weight, float eps, int64_t n, T* out) {
  Floats squares{};
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats values = load_some(x + i, n - i);
    squares += values * values;
  }
  const float scale = 1.0F / std::sqrt(sum_of(squares) / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; i += kLanes) {
    store_some(load_some(x + i, n - i) * scale * load_some(weight + i, n - i), out + i, n - i);
  }
}

/// e^x to 2 units in the last place, for x in [-87, 88]; beyond, as at the ends. 2^k e^r with |r|
/// <= ln(2) / 2, where a polynomial of degree 6 (Taylor's, up to r^6 / 720) errs by 1.5e-7 at most.
inline Floats exp_of(Floats x) {
  const Floats low = Floats{} - 87.0F, high = Floats{} + 88.0F;
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Ints k = round_to_ints(x * 1.44269504F);
  const Floats whole = __builtin_convertvector(k, Floats);
  const Floats r =
      x - whole * 0.693359375F - whole * -2.12194440e-4F;  // ln 2 in two parts, the first exact
  Floats sum = r * (1.0F / 720) + 1.0F / 120;
  for (const float factor : {1.0F / 24, 1.0F / 6, 0.5F, 1.0F, 1.0F}) {
    sum = sum * r + factor;
  }
  return sum * reinterpret_cast<Floats>((k + 127) << 23);
}

template <class T>
void silu_times(const T* gate, const T* up, int64_t n, T* out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats x = load_some(gate + i, n - i);
    store_some(x / (1.0F + exp_of(-x)) * load_some(up + i, n - i), out + i, n - i);
  }
}

template <class T>
void add(const T* a, const T* b, int64_t n, T* out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    store_some(load_some(a + i, n - i) + load_some(b + i, n - i), out + i, n - i);
  }
}

template <class T>
void rotate(const T* heads, const T* cos, const T* sin, int64_t n_heads, int64_t head_dim, T* out) {
  const int64_t half = head_dim / 2;
  for (int64_t head = 0; head < n_heads; ++head, heads += head_dim, out += head_dim) {
    for (int64_t i = 0; i < half; i += kLanes) {
      const int64_t n = half - i, j = i + half;
      const Floats x = load_some(heads + i, n), y = load_some(heads + j, n);
      store_some(x * load_some(cos + i, n) - y * load_some(sin + i, n), out + i, n);
      store_some(y * load_some(cos + j, n) + x * load_some(sin + j, n), out + j, n);
    }
  }
}

template <class T>
constexpr RowKernels<T> kRowKernels = {rms_norm<T>, silu_times<T>, add<T>, rotate<T>};

}  // namespace
}  // namespace ssa::cpu
