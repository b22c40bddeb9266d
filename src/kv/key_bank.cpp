#include "kv/key_bank.h"

#include <cstring>

namespace ssa {
namespace {

int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

}  // namespace

KeyBank::KeyBank(KvType type, int64_t n_kv_heads, int64_t head_dim, KeyOrder order, bool has_values)
    : type_(type),
      head_dim_(head_dim),
      order_(order),
      keys_(static_cast<size_t>(n_kv_heads)),
      values_(static_cast<size_t>(has_values ? n_kv_heads : 0)) {}

int64_t KeyBank::key_bytes(int64_t n) const {
  return (order_ == KeyOrder::kTiles ? round_up(n, kTileKeys) : n) * vector_bytes(type_, head_dim_);
}

void KeyBank::reserve(int64_t n) {
  for (GrowingBuffer& buffer : keys_) {
    buffer.reserve(key_bytes(n));
  }
  for (GrowingBuffer& buffer : values_) {
    buffer.reserve(n * vector_bytes(type_, head_dim_));
  }
}

void KeyBank::resize(int64_t n) {
  reserve(n);
  n_rows_ = n;
}

void KeyBank::store(int64_t kv_head, const std::byte* key, const std::byte* value) {
  const int64_t row = n_rows_ - 1, bytes = vector_bytes(type_, head_dim_);
  if (order_ == KeyOrder::kTiles) {
    std::byte* tile = keys(kv_head) + row / kTileKeys * tile_bytes(type_, head_dim_);
    store_in_tile(type_, key, head_dim_, row % kTileKeys, tile);
  } else {
    std::memcpy(keys(kv_head) + row * bytes, key, static_cast<size_t>(bytes));
  }
  if (!values_.empty()) {
    std::memcpy(values(kv_head) + row * bytes, value, static_cast<size_t>(bytes));
  }
}

int64_t KeyBank::stored_bytes() const {
  const auto n_vectors = static_cast<int64_t>(keys_.size() + values_.size());
  return n_vectors * n_rows_ * vector_bytes(type_, head_dim_);
}

int64_t KeyBank::spare_bytes() const {
  constexpr int64_t kMemoryPage = 4096;
  const int64_t touched =
      static_cast<int64_t>(keys_.size()) * round_up(key_bytes(), kMemoryPage) +
      static_cast<int64_t>(values_.size()) * round_up(value_bytes(), kMemoryPage);
  return touched - stored_bytes();
}

}  // namespace ssa
