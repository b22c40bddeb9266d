// How keys and values lie in memory: number types, rows, tiles.
//
// vector   the head_dim numbers of one token and head, one behind the other. int8: head_dim signed
// bytes, then the scale
//          as bf16 (value = byte * scale, |byte| <= 127, scale = largest magnitude / 127 rounded
//          up).
// row      [key vector | value vector]. Raw tokens of one key/value head are stored as rows, token
// behind token, so that
//          every run of tokens, a chunk above all, is one run of bytes.
// tile     the keys of 16 tokens, interleaved so that one register holds the same dimensions of all
// 16 and a scan needs
//          no sum across a register:
//            f32   [head_dim][16]
//            bf16  [head_dim / 2][16][2]
//            int8  [head_dim / 4][16][4], then 16 scales as bf16
//          Keys that are not there yet are 0.
//
// head_dim is a multiple of 8, at most 512; where it is not one of 16, vector registers are filled
// up by the kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ssa {

enum class KvType : uint8_t { kF32, kBF16, kInt8 };

/// "f32", "bf16", "int8", as --kv-dtype has them.
const char* kv_type_name(KvType type);
std::optional<KvType> parse_kv_type(std::string_view name);

inline constexpr int64_t kTileKeys = 16;

/// Bytes of a vector, a row and a tile.
int64_t vector_bytes(KvType type, int64_t head_dim);
int64_t row_bytes(KvType type, int64_t head_dim);
int64_t tile_bytes(KvType type, int64_t head_dim);

/// Stores one vector, rounding to nearest even. `out`: vector_bytes.
void store_vector(KvType type, const float* values, int64_t head_dim, std::byte* out);
void load_vector(KvType type, const std::byte* vector, int64_t head_dim, float* out);

/// The vector as key number `slot` of a tile, and back.
void store_in_tile(
    KvType type, const std::byte* vector, int64_t head_dim, int64_t slot, std::byte* tile);
void load_from_tile(KvType type, const std::byte* tile, int64_t head_dim, int64_t slot, float* out);

}  // namespace ssa
