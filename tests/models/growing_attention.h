// The plainest attention context: keys and values glued together, pass by pass.
#pragma once

#include <vector>

#include "attention/attention.h"

namespace ssa {

class GrowingAttention : public AttentionContext {
 public:
  explicit GrowingAttention(int64_t n_layers) : layers_(static_cast<size_t>(n_layers)) {}

  Tensor attend(int64_t layer, const AttentionInput& in) override {
    Layer& seen = layers_[static_cast<size_t>(layer)];
    const auto grown = [](const Tensor& old, const Tensor& more) {
      const Tensor head_major = more.transpose(0, 1);
      return old.defined() ? torch::cat({old, head_major}, 1) : head_major;
    };
    seen.k = grown(seen.k, in.k);
    seen.v = grown(seen.v, in.v);
    return dense_attention(in.q, seen.k, seen.v, in.scale);
  }

 private:
  struct Layer {
    Tensor k, v;  // [n_kv_heads, n_seen, head_dim]; undefined before the first pass
  };
  std::vector<Layer> layers_;
};

}  // namespace ssa
