#include "engine/paged_pass.h"

namespace ssa {
namespace {

bool is_bf16(const Tensor& x) {
  return x.scalar_type() == torch::kBFloat16;
}

/// Heads of a token lie one behind the other; only the step from token to token is free.
Tensor with_adjacent_heads(const Tensor& x) {
  return x.stride(2) == 1 && x.stride(1) == x.size(2) ? x : x.contiguous();
}

}  // namespace

void append_pass(PagedKvCache& cache,
                 int64_t layer,
                 const AttentionInput& in,
                 std::span<const int8_t> levels) {
  const Tensor k = with_adjacent_heads(in.k), v = with_adjacent_heads(in.v);
  cache.append(layer,
               {.keys = k.const_data_ptr(),
                .values = v.const_data_ptr(),
                .is_bf16 = is_bf16(k),
                .key_stride = k.stride(0),
                .value_stride = v.stride(0)},
               levels);
}

}  // namespace ssa
