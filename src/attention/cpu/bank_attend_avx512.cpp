// AVX-512: float32 banks in float32; bf16 and int8 in pairs of bf16 summed in float32 (vdpbf16ps),
// two keys or dimensions an instruction. Bytes are exact in bf16; their scales go into scores, and
// into values before those are rounded.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored \
    "-Wuninitialized"  // false alarms in g++ 12's immintrin.h (GCC bug 105593)
#endif
#include <immintrin.h>

#include "attention/cpu/bank_attend_tables.h"
#include "attention/cpu/bank_engine_f32.h"
#include "selection/cpu/tile_math_avx512.h"

namespace ssa::cpu {
namespace {

struct Avx512Lane {
  using Register = __m512;
  static constexpr float kLeast = -200;  // 2^-200 is 0 in floats

  static Register load(const float* at) { return _mm512_loadu_ps(at); }
  static void store(float* at, Register x) { _mm512_storeu_ps(at, x); }
  static Register set(float value) { return _mm512_set1_ps(value); }
  static Register add(Register a, Register b) { return _mm512_add_ps(a, b); }
  static Register subtract(Register a, Register b) { return _mm512_sub_ps(a, b); }
  static Register multiply(Register a, Register b) { return _mm512_mul_ps(a, b); }
  static Register multiply_add(Register a, Register b, Register c) {
    return _mm512_fmadd_ps(a, b, c);
  }
  static Register larger(Register a, Register b) { return _mm512_max_ps(a, b); }
  static Register first(Register x, int64_t n) {
    const auto seen = (uint32_t{1} << larger_of(smaller_of(n, kSumLanes), 0)) - 1;
    return _mm512_mask_mov_ps(set(-__builtin_inff()), static_cast<__mmask16>(seen), x);
  }
  static bool any_above(Register x, float value) {
    return _mm512_cmp_ps_mask(x, set(value), _CMP_GT_OQ) != 0;
  }
  static float largest_of(Register x) { return _mm512_reduce_max_ps(x); }
  static Register whole(Register x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Register times_power(Register x, Register n) { return _mm512_scalef_ps(x, n); }
};

/// 16 numbers of a value as bf16, in the low halves of 32 bits.
struct BF16Halves {
  static __m512i load(const std::byte* vector, int64_t i, __mmask16 lanes, __m512 /*scale*/) {
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, vector + 2 * i));
  }
};

struct Int8Halves {
  static __m512i load(const std::byte* vector, int64_t i, __mmask16 lanes, __m512 scale) {
    const __m512i bytes = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(lanes, vector + i));
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_mul_ps(_mm512_cvtepi32_ps(bytes), scale));
    return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(rounded));
  }
};

/// Values two by two, [pair][dimension][2].
template <class Halves>
void store_pairs(const ValueBlock& block, int64_t padded_dim, float* out) {
  const int64_t bytes = vector_bytes(block.type, block.head_dim);
  const auto scale_of = [&](const std::byte* vector) {
    return _mm512_set1_ps(block.type == KvType::kInt8 ? bf16_at(vector + block.head_dim) : 1);
  };
  for (int64_t key = 0; key < round_up(block.n, kTileKeys); key += 2) {
    // Values that are not there are loaded with no lanes, from an address that is.
    const std::byte* first = block.vectors + smaller_of(key, block.n - 1) * bytes;
    const std::byte* second = block.vectors + smaller_of(key + 1, block.n - 1) * bytes;
    const __m512 first_scale = scale_of(first), second_scale = scale_of(second);
    for (int64_t i = 0; i < padded_dim; i += kLaneDims) {
      const __mmask16 lanes = block.head_dim - i >= kLaneDims ? 0xFFFF : 0xFF;
      const __mmask16 first_lanes = key < block.n ? lanes : __mmask16{0};
      const __mmask16 second_lanes = key + 1 < block.n ? lanes : __mmask16{0};
      const __m512i low = Halves::load(first, i, first_lanes, first_scale);
      const __m512i high = Halves::load(second, i, second_lanes, second_scale);
      _mm512_storeu_si512(out + key / 2 * padded_dim + i,
                          _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
  }
}

/// An int8 tile as a bf16 tile: a step's four dimensions become two steps of two.
void widen_to_bf16(const std::byte* tile, int64_t head_dim, std::byte* out) {
  for (int64_t i = 0; i < head_dim; i += 4) {
    const __m512i bytes = _mm512_loadu_si512(tile + i / 4 * kLaneBytes);
    __m512i halves[4];
#pragma GCC unroll 4
    for (int dim = 0; dim < 4; ++dim) {
      const __m512i shifted = _mm512_slli_epi32(bytes, static_cast<unsigned>(24 - 8 * dim));
      const __m512 number = _mm512_cvtepi32_ps(_mm512_srai_epi32(shifted, 24));
      halves[dim] = _mm512_castps_si512(number);  // exact: the lower 16 bits are 0
    }
    std::byte* to = out + i / 2 * kLaneBytes;
    _mm512_storeu_si512(to, _mm512_or_si512(_mm512_srli_epi32(halves[0], 16), halves[1]));
    _mm512_storeu_si512(to + kLaneBytes,
                        _mm512_or_si512(_mm512_srli_epi32(halves[2], 16), halves[3]));
  }
}

struct EngineBF16 {
  using Math = Avx512BF16;
  using F32 = Avx512F32;
  static constexpr int kRows = 6, kLanes = 4;

  static KeyTiles key_tiles(
      const HeadShape& shape, const std::byte* tiles, int64_t n_tiles, float* out, float* scales) {
    const int64_t stored = tile_bytes(shape.type, shape.head_dim);
    if (shape.type == KvType::kBF16) {
      return {tiles, stored};
    }
    auto* widened = reinterpret_cast<std::byte*>(out);
    const int64_t widened_bytes = tile_bytes(KvType::kBF16, shape.head_dim);
    for (int64_t tile = 0; tile < n_tiles; ++tile) {
      widen_to_bf16(tiles + tile * stored, shape.head_dim, widened + tile * widened_bytes);
    }
    apply_key_scales(tiles, shape.head_dim, n_tiles, scales);
    return {widened, widened_bytes};
  }

  static void store_values(const ValueBlock& block, int64_t padded_dim, float* out) {
    if (block.type == KvType::kBF16) {
      store_pairs<BF16Halves>(block, padded_dim, out);
    } else {
      store_pairs<Int8Halves>(block, padded_dim, out);
    }
  }

  /// Weights are stored as bf16, two a word.
  static void weigh(float* scores, const float* scales, int64_t n_visible, RowSoftmax& row) {
    __m512 weights[kBlockLanes];
    weigh_block<Avx512Lane>(scores, scales, n_visible, row, weights);
#pragma GCC unroll 2
    for (int i = 0; i < kBlockLanes; i += 2) {
      const __m512bh pairs = _mm512_cvtne2ps_pbh(weights[i + 1], weights[i]);
      _mm512_storeu_si512(scores + i / 2 * kSumLanes, reinterpret_cast<__m512i>(pairs));
    }
  }
};

void attend(const HeadShape& shape,
            const float* q,
            int64_t n_rows,
            float scale,
            const BankView& bank,
            const int64_t* visible,
            const SoftmaxState& state) {
  if (shape.type == KvType::kF32) {
    return attend_groups<EngineF32<Avx512F32, Avx512Lane, 6, 4>>(
        shape, q, n_rows, scale, bank, visible, state);
  }
  attend_groups<EngineBF16>(shape, q, n_rows, scale, bank, visible, state);
}

}  // namespace

const BankAttendKernels kAvx512BankAttendKernels = {attend};

}  // namespace ssa::cpu
