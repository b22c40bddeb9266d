// Keys and values of one sequence.
#pragma once

#include <torch/types.h>

#include <vector>

#include "checkpoint/model_config.h"

namespace ssa {

using torch::Tensor;

/// Head-major and contiguous, [n_kv_heads, capacity, head_dim] a layer, twice. Owns its memory,
/// taken up front but touched only as tokens arrive; grows by doubling when appended beyond its
/// capacity. Not thread-safe.
class KvCache {
 public:
  KvCache(const ModelConfig& config,
          torch::ScalarType dtype,
          torch::Device device,
          int64_t capacity);

  /// k, v: [n_tokens, n_kv_heads, head_dim].
  void append(int64_t layer, const Tensor& k, const Tensor& v);
  /// Views of what is there: [n_kv_heads, length(layer), head_dim].
  Tensor keys(int64_t layer) const;
  Tensor values(int64_t layer) const;
  int64_t n_layers() const { return static_cast<int64_t>(layers_.size()); }
  int64_t length(int64_t layer) const { return layers_[static_cast<size_t>(layer)].length; }

  /// Forgets all tokens from `length` on, in every layer.
  void truncate(int64_t length);

  /// Bytes that n_tokens take.
  static uint64_t bytes(const ModelConfig& config, torch::ScalarType dtype, int64_t n_tokens);

 private:
  struct Layer {
    Tensor keys, values;  // [n_kv_heads, capacity, head_dim]
    int64_t length = 0;
  };
  static void grow(Layer& layer, int64_t needed);
  std::vector<Layer> layers_;
};

}  // namespace ssa
