// Gist SSA and H-SSA for one sequence in plain LibTorch.
#pragma once

#include <optional>
#include <vector>

#include "engine/chunked_attention.h"
#include "engine/kv_cache.h"
#include "selection/pivot_bank.h"

namespace ssa {

/// The reference, in plain LibTorch on any device and in any dtype: all keys and values in one
/// tensor, what is attended chosen anew for every query, layer and key/value head.
/// engine/paged_sequence.h is the fast one.
class GistAttention : public ChunkedAttention {
 public:
  GistAttention(KvCache cache, GistLayout prompt, const GistAttentionOptions& options);

  void begin_pass(int64_t first, std::span<const int64_t> ids) override;
  Tensor attend(int64_t layer, const AttentionInput& in) override;
  void rewind(int64_t length) override;

 private:
  const Tensor& pass_mask(torch::Device device);
  Tensor unfold(int64_t layer, const AttentionInput& in);
  std::vector<int64_t> choose(int64_t layer,
                              int64_t row,
                              int64_t kv_head,
                              int64_t group_size,
                              const std::vector<Tensor>& scores);

  KvCache cache_;
  Tensor mask_;  // of this pass: [n_pass, first + n_pass] bool, made when first asked for
  std::vector<std::optional<PivotBank>> banks_;  // [n_layers]
  int64_t n_banked_ = 0;                         // gists of the layout that they cover
};

}  // namespace ssa
