#include "engine/kv_cache.h"

#include <algorithm>

#include "base/checked_math.h"

namespace ssa {

KvCache::KvCache(const ModelConfig& config,
                 torch::ScalarType dtype,
                 torch::Device device,
                 int64_t capacity) {
  const auto options = torch::TensorOptions().dtype(dtype).device(device);
  for (int64_t i = 0; i < config.n_layers; ++i) {
    const auto empty = [&] {
      return torch::empty({config.n_kv_heads, capacity, config.head_dim}, options);
    };
    layers_.push_back({empty(), empty()});
  }
}

void KvCache::grow(Layer& layer, int64_t needed) {
  const int64_t capacity = std::max(needed, 2 * layer.keys.size(1));
  for (Tensor* stored : {&layer.keys, &layer.values}) {
    Tensor larger = torch::empty({stored->size(0), capacity, stored->size(2)}, stored->options());
    larger.narrow(1, 0, layer.length).copy_(stored->narrow(1, 0, layer.length));
    *stored = larger;
  }
}

void KvCache::append(int64_t index, const Tensor& k, const Tensor& v) {
  Layer& layer = layers_[static_cast<size_t>(index)];
  const int64_t n_tokens = k.size(0);
  if (layer.length + n_tokens > layer.keys.size(1)) {
    grow(layer, layer.length + n_tokens);
  }
  layer.keys.narrow(1, layer.length, n_tokens).copy_(k.transpose(0, 1));
  layer.values.narrow(1, layer.length, n_tokens).copy_(v.transpose(0, 1));
  layer.length += n_tokens;
}

Tensor KvCache::keys(int64_t layer) const {
  const Layer& stored = layers_[static_cast<size_t>(layer)];
  return stored.keys.narrow(1, 0, stored.length);
}

Tensor KvCache::values(int64_t layer) const {
  const Layer& stored = layers_[static_cast<size_t>(layer)];
  return stored.values.narrow(1, 0, stored.length);
}

void KvCache::truncate(int64_t length) {
  for (Layer& layer : layers_) {
    layer.length = std::min(layer.length, length);
  }
}

uint64_t KvCache::bytes(const ModelConfig& config, torch::ScalarType dtype, int64_t n_tokens) {
  uint64_t bytes = 2 * torch::elementSize(dtype);
  for (const int64_t size : {config.n_layers, config.n_kv_heads, config.head_dim, n_tokens}) {
    bytes = checked_mul(bytes, static_cast<uint64_t>(size), "key/value cache");
  }
  return bytes;
}

}  // namespace ssa
