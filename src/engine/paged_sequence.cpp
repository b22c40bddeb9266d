#include "engine/paged_sequence.h"

#include <torch/utils.h>
#include <algorithm>

#include "engine/paged_pass.h"

namespace ssa {
namespace {

/// Raw keys (or values) of all heads in a model's dtype: [n_kv_heads, n_tokens, head_dim].
Tensor gather_raw(const PagedKvCache& cache, int64_t layer, bool values, torch::ScalarType dtype) {
  const KvShape& shape = cache.shape();
  const int64_t n = cache.n_raw(layer), step = row_bytes(shape.type, shape.head_dim);
  const int64_t offset = values ? vector_bytes(shape.type, shape.head_dim) : 0;
  Tensor out = torch::empty({shape.n_kv_heads, n, shape.head_dim}, torch::kFloat32);
  auto* next = out.mutable_data_ptr<float>();
  for (int64_t head = 0; head < shape.n_kv_heads; ++head) {
    cache.for_each_run(layer, head, {0, n}, [&](const RowRun& run) {
      for (int64_t t = 0; t < run.n_tokens; ++t, next += shape.head_dim) {
        load_vector(shape.type, run.rows + t * step + offset, shape.head_dim, next);
      }
    });
  }
  return out.to(dtype);
}

/// Many queries are a matrix product and go through LibTorch, few through the decode kernel.
Tensor attend_densely(cpu::PagedAttention& attention,
                      const PagedKvCache& cache,
                      int64_t layer,
                      const AttentionInput& in) {
  constexpr int64_t kFewQueries = 4;
  if (in.q.size(0) > kFewQueries) {
    const auto dtype = in.q.scalar_type();
    return dense_attention(in.q,
                           gather_raw(cache, layer, false, dtype),
                           gather_raw(cache, layer, true, dtype),
                           in.scale);
  }
  return with_block(layer, in, [&](const cpu::QueryBlock& block) {
    attention.dense(cache, block, cache.n_raw(layer) - block.n_tokens);
  });
}

}  // namespace

PagedKvCache make_paged_cache(const ModelConfig& config,
                              KvType type,
                              int n_levels,
                              std::shared_ptr<PagePool> pool) {
  const KvShape shape{.type = type,
                      .n_layers = config.n_layers,
                      .n_kv_heads = config.n_kv_heads,
                      .head_dim = config.head_dim,
                      .n_levels = n_levels};
  return {shape,
          pool ? std::move(pool) : std::make_shared<PagePool>(PagedKvCache::page_bytes(shape))};
}

void append_random(PagedKvCache& cache, std::span<const int8_t> levels) {
  constexpr size_t kBlock = 2048;  // numbers are drawn once, and taken again and again
  const KvShape& shape = cache.shape();
  const int64_t width = shape.n_kv_heads * shape.head_dim;
  const auto random = [&] {
    return torch::randn({static_cast<int64_t>(kBlock), width}).to(torch::kBFloat16);
  };
  for (int64_t layer = 0; layer < shape.n_layers; ++layer) {
    const Tensor keys = random(), values = random();
    for (size_t begin = 0; begin < levels.size(); begin += kBlock) {
      cache.append(layer,
                   {keys.const_data_ptr(), values.const_data_ptr(), true, width, width},
                   levels.subspan(begin, std::min(kBlock, levels.size() - begin)));
    }
  }
}

PagedFullAttention::PagedFullAttention(PagedKvCache cache)
    : cache_(std::move(cache)), attention_(torch::get_num_threads()) {}

Tensor PagedFullAttention::attend(int64_t layer, const AttentionInput& in) {
  append_pass(cache_, layer, in, std::vector<int8_t>(static_cast<size_t>(in.k.size(0)), kRawLevel));
  return attend_densely(attention_, cache_, layer, in);
}

void PagedFullAttention::fill_random(int64_t n) {
  append_random(cache_, std::vector<int8_t>(static_cast<size_t>(n), kRawLevel));
}

PagedGistAttention::PagedGistAttention(PagedKvCache cache,
                                       GistLayout prompt,
                                       const GistAttentionOptions& options)
    : ChunkedAttention(std::move(prompt), options),
      cache_(std::move(cache)),
      attention_(torch::get_num_threads()) {
  const Pivot pivot = options.selection.pivot;
  if (pivot == Pivot::kMean || pivot == Pivot::kQuest) {
    for (int64_t layer = 0; layer < cache_.shape().n_layers; ++layer) {
      pivots_.emplace_back(pivot, cache_.shape(), layout_.n_levels());
    }
  }
}

void PagedGistAttention::begin_pass(int64_t first, std::span<const int64_t> ids) {
  ChunkedAttention::begin_pass(first, ids);
  if (options_.has_gists) {
    const auto levels =
        layout_.levels().subspan(static_cast<size_t>(first_), static_cast<size_t>(n_pass_));
    pass_levels_.assign(levels.begin(), levels.end());
  } else {
    pass_levels_.assign(static_cast<size_t>(n_pass_), kRawLevel);
  }
}

void PagedGistAttention::rewind(int64_t length) {
  std::vector<int64_t> n_gists;
  for (int level = 0; level < cache_.shape().n_levels; ++level) {
    n_gists.push_back(layout_.chunk_of(level, length));
  }
  const int64_t n_raw = options_.has_gists ? layout_.raw_before(length) : length;
  cache_.truncate(n_raw, n_gists);
  for (ChunkPivots& pivots : pivots_) {
    pivots.truncate(layout_, n_raw);
  }
}

Tensor PagedGistAttention::attend(int64_t layer, const AttentionInput& in) {
  append_pass(cache_, layer, in, pass_levels_);
  switch (rule_of(layer)) {
    case Rule::kDense:
      return attend_densely(attention_, cache_, layer, in);
    case Rule::kMasked:
      return with_block(layer, in, [&](const cpu::QueryBlock& block) {
        attention_.masked(cache_, layout_, options_.rule, block, first_);
      });
    case Rule::kUnfold:
      return unfold(layer, in);
  }
  TORCH_INTERNAL_ASSERT(false, "attention without a rule");
}

Tensor PagedGistAttention::unfold(int64_t layer, const AttentionInput& in) {
  const Pivot pivot = options_.selection.pivot;
  ChunkPivots* pivots = pivots_.empty() ? nullptr : &pivots_[static_cast<size_t>(layer)];
  if (pivots != nullptr) {
    pivots->update(layout_, cache_, layer);
  }
  if (pivot == Pivot::kRecent || pivot == Pivot::kRandom) {
    order_.resize(static_cast<size_t>(layout_.n_levels()));
    for (size_t level = 0; level < order_.size(); ++level) {
      const int64_t n = layout_.n_gists(static_cast<int>(level));
      if (static_cast<int64_t>(order_[level].size()) != n) {
        order_[level] = order_scores(pivot, n);
      }
    }
  }
  const cpu::SelectionContext context{.layout = layout_,
                                      .rule = options_.rule,
                                      .options = options_.selection,
                                      .cache = cache_,
                                      .pivots = pivots,
                                      .order = order_.empty() ? nullptr : &order_,
                                      .has_gists = options_.has_gists,
                                      .layer = layer};
  const cpu::UnfoldOptions unfold{.first = layout_index(first_),
                                  .n_prompt = n_prompt_,
                                  .first_in_sequence = first_,
                                  .wants_kept = observer_ != nullptr && observer_->wants_kept()};
  return with_block(layer, in, [&](const cpu::QueryBlock& block) {
    const std::vector<cpu::Choice>& choices = attention_.unfold(context, block, unfold);
    const int64_t n_kv_heads = cache_.shape().n_kv_heads;
    for (size_t i = 0; observer_ != nullptr && i < choices.size(); ++i) {
      const auto item = static_cast<int64_t>(i);
      observer_->on_selection(
          layer, first_ + item / n_kv_heads, item % n_kv_heads, choices[i].kept, choices[i].n_keys);
    }
  });
}

void PagedGistAttention::fill_random(int64_t n) {
  if (options_.has_gists) {
    append_random(cache_, layout_.levels().first(static_cast<size_t>(n)));
  } else {
    append_random(cache_, std::vector<int8_t>(static_cast<size_t>(n), kRawLevel));
  }
}

KvBytes PagedGistAttention::bytes() const {
  KvBytes bytes = cache_.bytes();
  for (const ChunkPivots& pivots : pivots_) {
    bytes.extra += pivots.bytes();
  }
  return bytes;
}

}  // namespace ssa
