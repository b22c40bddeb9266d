#include "engine/cpu/block_selection.h"

#include <algorithm>

#include "selection/cpu/score.h"

namespace ssa::cpu {

void BlockSelection::begin(const BlockContext& context,
                           const BlockQueries& queries,
                           const float* q,
                           int64_t token_stride,
                           int64_t kv_head) {
  context_ = &context;
  queries_ = queries;
  kv_head_ = kv_head;
  const int64_t width = queries.group_size * context.cache.shape().head_dim;
  q_.resize(static_cast<size_t>(queries.n_tokens * width));
  for (int64_t token = 0; token < queries.n_tokens; ++token) {
    std::copy_n(q + token * token_stride, width, q_.data() + token * width);
  }
  ranking_.begin(context.options, queries);
}

void BlockSelection::scan(int64_t part) {
  const KvShape& shape = context_->cache.shape();
  const std::byte* tiles =
      context_->means.keys().keys(kv_head_) +
      part * BlockRanking::kPartBlocks * vector_bytes(shape.type, shape.head_dim);
  score_kernels(instruction_set())
      .score_tiles(shape.type,
                   shape.head_dim,
                   q_.data(),
                   queries_.n_rows(),
                   tiles,
                   ranking_.n_blocks_in(part),
                   ranking_.scores(part),
                   BlockRanking::kPartStride);
  ranking_.find_largest(part);
}

void BlockSelection::finish(int64_t token, HeadJob& job) {
  ranking_.choose(token, blocks_);
  job.clear();
  const int64_t size = context_->options.block_size, end = queries_.first + token + 1;
  Range open{0, 0};
  for (const int64_t block : blocks_) {
    const Range tokens{block * size, std::min((block + 1) * size, end)};
    if (tokens.begin == open.end) {
      open.end = tokens.end;
    } else {
      job.add_raw(context_->cache, context_->layer, kv_head_, open);
      open = tokens;
    }
  }
  job.add_raw(context_->cache, context_->layer, kv_head_, open);
}

}  // namespace ssa::cpu
