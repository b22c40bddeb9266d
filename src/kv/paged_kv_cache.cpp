#include "kv/paged_kv_cache.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/checked_math.h"
#include "base/error.h"

namespace ssa {
namespace {

constexpr size_t kLargestVector = 512 * sizeof(float) + 2;

void widen(const uint16_t* values, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = std::bit_cast<float>(static_cast<uint32_t>(values[i]) << 16);
  }
}

/// Element `offset` of a source on, stored as one vector.
void store_from(KvType type,
                const void* values,
                bool is_bf16,
                int64_t offset,
                int64_t head_dim,
                std::byte* out) {
  if (!is_bf16) {
    store_vector(type, static_cast<const float*>(values) + offset, head_dim, out);
    return;
  }
  const uint16_t* narrow = static_cast<const uint16_t*>(values) + offset;
  if (type == KvType::kBF16) {
    std::memcpy(out, narrow, static_cast<size_t>(head_dim) * sizeof(uint16_t));
    return;
  }
  std::array<float, 512> wide;
  widen(narrow, head_dim, wide.data());
  store_vector(type, wide.data(), head_dim, out);
}

}  // namespace

PagedKvCache::PagedKvCache(const KvShape& shape, std::shared_ptr<PagePool> pool)
    : shape_(shape), pool_(std::move(pool)), layers_(static_cast<size_t>(shape.n_layers)) {
  check(shape.head_dim % 8 == 0 && shape.head_dim <= 512,
        "head size ",
        shape.head_dim,
        ": the key/value cache takes multiples of 8 up to 512");
  for (Layer& layer : layers_) {
    for (int level = 0; level < shape.n_levels; ++level) {
      const KeyOrder order = level + 1 == shape.n_levels ? KeyOrder::kTiles : KeyOrder::kVectors;
      layer.banks.emplace_back(
          shape.type, shape.n_kv_heads, shape.head_dim, order, /*has_values=*/true);
    }
  }
}

PagedKvCache::~PagedKvCache() {
  for (Layer& layer : layers_) {
    std::for_each(
        layer.pages.begin(), layer.pages.end(), [&](std::byte* page) { pool_->give_back(page); });
  }
}

int64_t PagedKvCache::page_bytes(const KvShape& shape) {
  return shape.n_kv_heads * kPageTokens * row_bytes(shape.type, shape.head_dim);
}

uint64_t PagedKvCache::bytes(const KvShape& shape, int64_t n_tokens) {
  auto bytes = static_cast<uint64_t>(row_bytes(shape.type, shape.head_dim));
  for (const int64_t size : {shape.n_layers, shape.n_kv_heads, n_tokens}) {
    bytes = checked_mul(bytes, static_cast<uint64_t>(size), "key/value cache");
  }
  return bytes;
}

void PagedKvCache::reserve_raw(Layer& layer, int64_t n_raw) {
  const auto needed = static_cast<size_t>((n_raw + kPageTokens - 1) / kPageTokens);
  while (layer.pages.size() < needed) {
    layer.pages.push_back(pool_->take());
  }
  while (layer.pages.size() > needed) {
    pool_->give_back(layer.pages.back());
    layer.pages.pop_back();
  }
  layer.n_raw = n_raw;
}

const std::byte* PagedKvCache::row(int64_t layer, int64_t kv_head, int64_t token) const {
  const std::byte* page =
      layers_[static_cast<size_t>(layer)].pages[static_cast<size_t>(token / kPageTokens)];
  return page +
         (kv_head * kPageTokens + token % kPageTokens) * row_bytes(shape_.type, shape_.head_dim);
}

void PagedKvCache::append(int64_t index, const KvSource& source, std::span<const int8_t> levels) {
  Layer& layer = layers_[static_cast<size_t>(index)];
  const int64_t head_dim = shape_.head_dim, bytes = vector_bytes(shape_.type, head_dim);
  int64_t raw = layer.n_raw;
  reserve_raw(layer,
              raw + std::count(levels.begin(), levels.end(), static_cast<int8_t>(kRawLevel)));
  std::array<std::byte, kLargestVector> key, value;
  for (size_t i = 0; i < levels.size(); ++i) {
    const auto token = static_cast<int64_t>(i);
    KeyBank* bank = levels[i] == kRawLevel ? nullptr : &layer.banks[static_cast<size_t>(levels[i])];
    if (bank != nullptr) {
      bank->append_row();
    }
    for (int64_t head = 0; head < shape_.n_kv_heads; ++head) {
      std::byte* key_out = bank != nullptr ? key.data() : row(index, head, raw);
      std::byte* value_out = bank != nullptr ? value.data() : key_out + bytes;
      store_from(shape_.type,
                 source.keys,
                 source.is_bf16,
                 token * source.key_stride + head * head_dim,
                 head_dim,
                 key_out);
      store_from(shape_.type,
                 source.values,
                 source.is_bf16,
                 token * source.value_stride + head * head_dim,
                 head_dim,
                 value_out);
      if (bank != nullptr) {
        bank->store(head, key_out, value_out);
      }
    }
    raw += bank == nullptr ? 1 : 0;
  }
}

void PagedKvCache::truncate(int64_t n_raw, std::span<const int64_t> n_gists) {
  for (Layer& layer : layers_) {
    reserve_raw(layer, std::min(layer.n_raw, n_raw));
    for (size_t level = 0; level < layer.banks.size(); ++level) {
      layer.banks[level].resize(std::min(layer.banks[level].n_rows(), n_gists[level]));
    }
  }
}

void PagedKvCache::resize(int64_t n_raw, std::span<const int64_t> n_gists) {
  for (Layer& layer : layers_) {
    reserve_raw(layer, n_raw);
    for (size_t level = 0; level < layer.banks.size(); ++level) {
      layer.banks[level].resize(n_gists[level]);
    }
  }
}

KvBytes PagedKvCache::bytes() const {
  KvBytes sum;
  for (const Layer& layer : layers_) {
    const int64_t stored =
        layer.n_raw * shape_.n_kv_heads * row_bytes(shape_.type, shape_.head_dim);
    sum.raw += stored;
    sum.other += static_cast<int64_t>(layer.pages.size()) *
                     (page_bytes(shape_) + static_cast<int64_t>(sizeof(std::byte*))) -
                 stored;
    for (const KeyBank& bank : layer.banks) {
      sum.gist += bank.stored_bytes();
      sum.other += bank.spare_bytes();
    }
  }
  return sum;
}

}  // namespace ssa
