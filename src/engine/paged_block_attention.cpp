#include "engine/paged_block_attention.h"

#include <torch/utils.h>

#include "engine/paged_pass.h"

namespace ssa {

PagedBlockAttention::PagedBlockAttention(PagedKvCache cache, const BlockOptions& options)
    : cache_(std::move(cache)), options_(options), attention_(torch::get_num_threads()) {
  check_block_options(options);
  for (int64_t layer = 0; layer < cache_.shape().n_layers; ++layer) {
    means_.emplace_back(cache_.shape(), options.block_size);
  }
}

Tensor PagedBlockAttention::attend(int64_t layer, const AttentionInput& in) {
  const int64_t n = in.k.size(0), n_kv_heads = cache_.shape().n_kv_heads;
  append_pass(cache_, layer, in, std::vector<int8_t>(static_cast<size_t>(n), kRawLevel));
  BlockMeans& means = means_[static_cast<size_t>(layer)];
  means.update(cache_, layer);
  const int64_t first = cache_.n_raw(layer) - n;
  return with_block(layer, in, [&](const cpu::QueryBlock& block) {
    const auto& choices =
        attention_.sparse({cache_, means, options_, layer}, block, first, observer_ != nullptr);
    for (size_t i = 0; observer_ != nullptr && i < choices.size(); ++i) {
      const auto item = static_cast<int64_t>(i);
      observer_->on_blocks(layer,
                           first + item / n_kv_heads,
                           item % n_kv_heads,
                           choices[i].blocks,
                           choices[i].n_keys);
    }
  });
}

void PagedBlockAttention::rewind(int64_t length) {
  cache_.truncate(length, {});
  for (BlockMeans& means : means_) {
    means.truncate(length);
  }
}

void PagedBlockAttention::fill_random(int64_t n) {
  append_random(cache_, std::vector<int8_t>(static_cast<size_t>(n), kRawLevel));
}

KvBytes PagedBlockAttention::bytes() const {
  KvBytes bytes = cache_.bytes();
  for (const BlockMeans& means : means_) {
    bytes.extra += means.stored_bytes();
    bytes.other += means.spare_bytes();
  }
  return bytes;
}

}  // namespace ssa
