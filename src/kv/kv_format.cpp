#include "kv/kv_format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

namespace ssa {
namespace {

constexpr std::array<const char*, 3> kNames = {"f32", "bf16", "int8"};

int64_t element_bytes(KvType type) {
  return type == KvType::kF32 ? 4 : type == KvType::kBF16 ? 2 : 1;
}
int64_t scale_bytes(KvType type) {
  return type == KvType::kInt8 ? 2 : 0;
}
/// Dimensions of one key that lie side by side in a tile.
int64_t interleave(KvType type) {
  return 4 / element_bytes(type);
}

float from_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) {
    return static_cast<uint16_t>((bits >> 16) | 0x40);
  }
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

/// The least bf16 that is not below a positive value.
uint16_t to_bf16_up(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0xFFFF) >> 16);
}

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <class T>
void store(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

void store_int8(const float* values, int64_t head_dim, std::byte* out) {
  float largest = 0;
  for (int64_t i = 0; i < head_dim; ++i) {
    largest = std::max(largest, std::fabs(values[i]));
  }
  const uint16_t scale = to_bf16_up(largest / 127.0F);
  const float inverse = scale == 0 ? 0.0F : 1.0F / from_bf16(scale);
  for (int64_t i = 0; i < head_dim; ++i) {
    const float scaled = std::clamp(std::nearbyint(values[i] * inverse), -127.0F, 127.0F);
    store(out + i, static_cast<int8_t>(scaled));
  }
  store(out + head_dim, scale);
}

/// Where dimension i of key `slot` begins in a tile.
int64_t tile_offset(KvType type, int64_t i, int64_t slot) {
  const int64_t n = interleave(type);
  return ((i / n * kTileKeys + slot) * n + i % n) * element_bytes(type);
}

}  // namespace

const char* kv_type_name(KvType type) {
  return kNames[static_cast<size_t>(type)];
}

std::optional<KvType> parse_kv_type(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) {
    return std::nullopt;
  }
  return static_cast<KvType>(found - kNames.begin());
}

int64_t vector_bytes(KvType type, int64_t head_dim) {
  return head_dim * element_bytes(type) + scale_bytes(type);
}
int64_t row_bytes(KvType type, int64_t head_dim) {
  return 2 * vector_bytes(type, head_dim);
}
int64_t tile_bytes(KvType type, int64_t head_dim) {
  return kTileKeys * vector_bytes(type, head_dim);
}

void store_vector(KvType type, const float* values, int64_t head_dim, std::byte* out) {
  switch (type) {
    case KvType::kF32:
      std::memcpy(out, values, static_cast<size_t>(head_dim) * sizeof(float));
      return;
    case KvType::kBF16:
      for (int64_t i = 0; i < head_dim; ++i) {
        store(out + 2 * i, to_bf16(values[i]));
      }
      return;
    case KvType::kInt8:
      store_int8(values, head_dim, out);
  }
}

void load_vector(KvType type, const std::byte* vector, int64_t head_dim, float* out) {
  const float scale = type == KvType::kInt8 ? from_bf16(load<uint16_t>(vector + head_dim)) : 1.0F;
  for (int64_t i = 0; i < head_dim; ++i) {
    switch (type) {
      case KvType::kF32:
        out[i] = load<float>(vector + 4 * i);
        break;
      case KvType::kBF16:
        out[i] = from_bf16(load<uint16_t>(vector + 2 * i));
        break;
      case KvType::kInt8:
        out[i] = static_cast<float>(load<int8_t>(vector + i)) * scale;
    }
  }
}

void store_in_tile(
    KvType type, const std::byte* vector, int64_t head_dim, int64_t slot, std::byte* tile) {
  const int64_t size = element_bytes(type), together = interleave(type);
  for (int64_t i = 0; i < head_dim; i += together) {
    std::memcpy(tile + tile_offset(type, i, slot), vector + i * size, 4);
  }
  if (type == KvType::kInt8) {
    std::memcpy(tile + kTileKeys * head_dim + 2 * slot, vector + head_dim, 2);
  }
}

void load_from_tile(
    KvType type, const std::byte* tile, int64_t head_dim, int64_t slot, float* out) {
  std::array<std::byte, 512 * 4 + 2> vector;
  const int64_t size = element_bytes(type), together = interleave(type);
  for (int64_t i = 0; i < head_dim; i += together) {
    std::memcpy(vector.data() + i * size, tile + tile_offset(type, i, slot), 4);
  }
  if (type == KvType::kInt8) {
    std::memcpy(vector.data() + head_dim, tile + kTileKeys * head_dim + 2 * slot, 2);
  }
  load_vector(type, vector.data(), head_dim, out);
}

}  // namespace ssa
