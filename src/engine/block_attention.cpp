#include "engine/block_attention.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "selection/block_selection.h"

namespace ssa {
namespace {

constexpr int64_t kGathered = int64_t{1} << 25;  // numbers of keys copied at once: 128 MiB of f32

Tensor query_index(const AttentionInput& in, int64_t first) {
  return torch::arange(
             first, first + in.q.size(0), torch::dtype(torch::kInt64).device(in.q.device()))
      .unsqueeze(1);
}

}  // namespace

BlockSparseAttention::BlockSparseAttention(KvCache cache,
                                           KvCache means,
                                           const BlockOptions& options)
    : options_((check_block_options(options), options)),
      cache_(std::move(cache)),
      means_(std::move(means)) {}

int64_t BlockSparseAttention::append(int64_t layer, const AttentionInput& in) {
  const int64_t first = cache_.length(layer);
  cache_.append(layer, in.k, in.v);
  const int64_t begin = means_.length(layer) * options_.block_size;
  const auto new_means = [&](const Tensor& stored) {
    return block_means(stored.slice(1, begin), options_.block_size).transpose(0, 1);
  };
  means_.append(layer, new_means(cache_.keys(layer)), new_means(cache_.values(layer)));
  return first;
}

void BlockSparseAttention::rewind(int64_t length) {
  cache_.truncate(length);
  means_.truncate(length / options_.block_size);
}

Tensor BlockSparseAttention::attend(int64_t layer, const AttentionInput& in) {
  return attend_selected(layer, in, append(layer, in));
}

Tensor BlockSparseAttention::attend_selected(int64_t layer,
                                             const AttentionInput& in,
                                             int64_t first) {
  const Tensor blocks = select_blocks(in.q, means_.keys(layer), first, in.scale, options_);
  if (observer_ != nullptr) {
    report(layer, first, blocks);
  }
  const int64_t n_tokens = in.q.size(0);
  const int64_t one = in.k.size(1) * in.k.size(2) * blocks.size(2) * options_.block_size;
  const int64_t piece = std::max<int64_t>(1, kGathered / one);
  std::vector<Tensor> rows;
  for (int64_t begin = 0; begin < n_tokens; begin += piece) {
    const int64_t n = std::min(piece, n_tokens - begin);
    const Tensor keys = block_keys(blocks.narrow(0, begin, n), first + begin, options_.block_size);
    rows.push_back(sparse_attention(
        in.q.narrow(0, begin, n), cache_.keys(layer), cache_.values(layer), keys, in.scale));
  }
  return torch::cat(rows);
}

void BlockSparseAttention::report(int64_t layer, int64_t first, const Tensor& blocks) {
  const Tensor lists = blocks.to(torch::kCPU).contiguous();
  const auto* row = lists.const_data_ptr<int64_t>();
  const int64_t n_places = lists.size(2);
  for (int64_t i = 0; i < lists.size(0); ++i) {
    for (int64_t kv_head = 0; kv_head < lists.size(1); ++kv_head, row += n_places) {
      const auto n = std::find(row, row + n_places, -1) - row;
      // All blocks but the query's own, the last, are whole.
      const int64_t n_attended =
          (n - 1) * options_.block_size + (first + i) % options_.block_size + 1;
      observer_->on_blocks(layer, first + i, kv_head, {row, static_cast<size_t>(n)}, n_attended);
    }
  }
}

NsaAttention::NsaAttention(KvCache cache,
                           KvCache means,
                           const BlockOptions& options,
                           int64_t window)
    : BlockSparseAttention(std::move(cache), std::move(means), options), window_(window) {
  check(window > 0, "window size ", window, ": expected 1 or more");
}

Tensor NsaAttention::attend(int64_t /*layer*/, const AttentionInput& /*in*/) {
  fail("NSA weighs its three branches by gates, and this model has none");
}

Tensor NsaAttention::attend_gated(int64_t layer, const AttentionInput& in, const Tensor& gates) {
  const int64_t first = append(layer, in);
  return attend_compressed(layer, in, first) * gates.slice(-1, 0, 1) +
         attend_selected(layer, in, first) * gates.slice(-1, 1, 2) +
         attend_window(layer, in, first) * gates.slice(-1, 2, 3);
}

Tensor NsaAttention::attend_compressed(int64_t layer,
                                       const AttentionInput& in,
                                       int64_t first) const {
  const Tensor keys = means_.keys(layer);
  if (keys.size(1) == 0) {
    return torch::zeros_like(in.q);
  }
  const Tensor t = query_index(in, first);
  const Tensor complete =
      torch::arange(keys.size(1), t.options()) < (t + 1).div(options_.block_size, "floor");
  return masked_attention(in.q, keys, means_.values(layer), complete, in.scale);
}

Tensor NsaAttention::attend_window(int64_t layer, const AttentionInput& in, int64_t first) const {
  const int64_t begin = std::max<int64_t>(0, first - window_ + 1);
  const Tensor t = query_index(in, first);
  const Tensor key = torch::arange(begin, first + in.q.size(0), t.options());
  const Tensor near = (key <= t).logical_and(key > t - window_);
  return masked_attention(in.q,
                          cache_.keys(layer).slice(1, begin),
                          cache_.values(layer).slice(1, begin),
                          near,
                          in.scale);
}

}  // namespace ssa
