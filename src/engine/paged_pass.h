// Between a model's tensors and the kernels over a paged cache.
#pragma once

#include <span>

#include "attention/attention.h"
#include "engine/cpu/paged_attention.h"
#include "kv/paged_kv_cache.h"

namespace ssa {

/// Appends a pass's keys and values to one layer; levels: of its tokens, see PagedKvCache::append.
void append_pass(PagedKvCache& cache,
                 int64_t layer,
                 const AttentionInput& in,
                 std::span<const int8_t> levels);

/// Runs fn on a block of float32 queries; its output in the model's dtype.
template <class Fn>
Tensor with_block(int64_t layer, const AttentionInput& in, const Fn& fn) {
  const Tensor q = in.q.to(torch::kFloat32).contiguous();
  Tensor out = torch::empty_like(q);
  fn(cpu::QueryBlock{.q = q.const_data_ptr<float>(),
                     .out = out.mutable_data_ptr<float>(),
                     .n_tokens = q.size(0),
                     .n_heads = q.size(1),
                     .scale = static_cast<float>(in.scale),
                     .layer = layer});
  return out.to(in.q.scalar_type());
}

}  // namespace ssa
