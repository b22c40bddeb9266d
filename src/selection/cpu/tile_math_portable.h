// Arithmetic for tile_dot.h on any processor: a lane is four registers of the compiler's vector
// extension. Keys of all types meet q in float32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ssa::cpu {
namespace {

using Floats [[gnu::vector_size(16)]] = float;
using Words [[gnu::vector_size(16)]] = uint32_t;
using Integers [[gnu::vector_size(16)]] = int32_t;

template <class Vector, class T>
Vector load_unaligned(const T* at) {
  Vector vector;
  std::memcpy(&vector, at, sizeof vector);
  return vector;
}

struct PortableF32 {
  static constexpr int kParts = 4;
  struct Sum {
    Floats part[kParts] = {};
  };
  using Columns = Sum;
  using Row = float;

  static constexpr int kDims = 1, kRowWords = 1, kMaxRows = 2;

  static float pack(const float* q, int64_t head_dim, uint32_t* words) {
    std::memcpy(words, q, static_cast<size_t>(head_dim) * sizeof(float));
    return 1;
  }
  static Columns load(const std::byte* at) {
    Columns columns;
    std::memcpy(&columns, at, sizeof columns);
    return columns;
  }
  static Row broadcast(const uint32_t* at) {
    Row row;
    std::memcpy(&row, at, sizeof row);
    return row;
  }
  static Sum add_product(Sum sum, Columns columns, Row row) {
    for (int i = 0; i < kParts; ++i) {
      sum.part[i] += columns.part[i] * row;
    }
    return sum;
  }
  static void finish(Sum sum, const std::byte* /*scales*/, float /*factor*/, float* out) {
    std::memcpy(out, &sum, sizeof sum);
  }

  /// For vectors side by side: sum += a * b over 16 dimensions, and the sum's total.
  static Sum add_dot(Sum sum, const float* a, const float* b) {
    for (int i = 0; i < kParts; ++i) {
      sum.part[i] += load_unaligned<Floats>(a + 4 * i) * load_unaligned<Floats>(b + 4 * i);
    }
    return sum;
  }
  static float total(Sum sum) {
    const Floats four = (sum.part[0] + sum.part[1]) + (sum.part[2] + sum.part[3]);
    return (four[0] + four[1]) + (four[2] + four[3]);
  }
};

struct PortableBF16 {
  using Sum = PortableF32::Sum;
  struct Columns {
    Sum even, odd;
  };
  struct Row {
    float even, odd;
  };

  static constexpr int kDims = 2, kRowWords = 2, kMaxRows = 2;

  static float pack(const float* q, int64_t head_dim, uint32_t* words) {
    return PortableF32::pack(q, head_dim, words);
  }
  static Columns load(const std::byte* at) {
    Columns columns;
    for (int i = 0; i < PortableF32::kParts; ++i) {
      const auto pairs = load_unaligned<Words>(at + 16 * i);
      columns.even.part[i] = reinterpret_cast<Floats>(pairs << 16);
      columns.odd.part[i] = reinterpret_cast<Floats>(pairs & 0xFFFF0000U);
    }
    return columns;
  }
  static Row broadcast(const uint32_t* at) {
    return {PortableF32::broadcast(at), PortableF32::broadcast(at + 1)};
  }
  static Sum add_product(Sum sum, Columns columns, Row row) {
    const Sum even = PortableF32::add_product(sum, columns.even, row.even);
    return PortableF32::add_product(even, columns.odd, row.odd);
  }
  static void finish(Sum sum, const std::byte* scales, float factor, float* out) {
    PortableF32::finish(sum, scales, factor, out);
  }
};

struct PortableInt8 {
  using Sum = PortableF32::Sum;
  struct Columns {
    Sum dims[4];
  };
  struct Row {
    float dims[4];
  };

  static constexpr int kDims = 4, kRowWords = 4, kMaxRows = 2;

  static float pack(const float* q, int64_t head_dim, uint32_t* words) {
    return PortableF32::pack(q, head_dim, words);
  }
  static Columns load(const std::byte* at) {
    Columns columns;
    for (int i = 0; i < PortableF32::kParts; ++i) {
      const auto bytes = load_unaligned<Integers>(at + 16 * i);
      for (int dim = 0; dim < 4; ++dim) {
        const auto lowest = reinterpret_cast<Words>(bytes) << (24 - 8 * dim);
        const Integers widened = reinterpret_cast<Integers>(lowest) >> 24;
        columns.dims[dim].part[i] = __builtin_convertvector(widened, Floats);
      }
    }
    return columns;
  }
  static Row broadcast(const uint32_t* at) {
    return {{PortableF32::broadcast(at),
             PortableF32::broadcast(at + 1),
             PortableF32::broadcast(at + 2),
             PortableF32::broadcast(at + 3)}};
  }
  static Sum add_product(Sum sum, Columns columns, Row row) {
    for (int dim = 0; dim < 4; ++dim) {
      sum = PortableF32::add_product(sum, columns.dims[dim], row.dims[dim]);
    }
    return sum;
  }
  static void finish(Sum sum, const std::byte* scales, float factor, float* out) {
    for (int i = 0; i < PortableF32::kParts; ++i) {
      Words bits;
      for (int key = 0; key < 4; ++key) {
        bits[key] = uint32_t{load_unaligned<uint16_t>(scales + 2 * (4 * i + key))} << 16;
      }
      const Floats scaled = sum.part[i] * reinterpret_cast<Floats>(bits) * factor;
      std::memcpy(out + 4 * i, &scaled, sizeof scaled);
    }
  }
};

}  // namespace
}  // namespace ssa::cpu
