#include "engine/cpu/head_job.h"

#include <algorithm>

namespace ssa::cpu {

void HeadJob::clear() {
  bank_end = 0;
  n_run_tokens = 0;
  runs.clear();
  scored.clear();
}

void HeadJob::add_raw(const PagedKvCache& cache, int64_t layer, int64_t kv_head, Range tokens) {
  const KvShape& shape = cache.shape();
  const int64_t stride = row_bytes(shape.type, shape.head_dim),
                value = vector_bytes(shape.type, shape.head_dim);
  cache.for_each_run(layer, kv_head, tokens, [&](const RowRun& run) {
    runs.push_back({run.rows, run.rows + value, run.n_tokens, stride, stride});
    n_run_tokens += run.n_tokens;
  });
}

void HeadJob::add_gists(
    const PagedKvCache& cache, int64_t layer, int level, int64_t kv_head, Range ordinals) {
  if (ordinals.begin >= ordinals.end) {
    return;
  }
  const KeyBank& bank = cache.bank(layer, level);
  const int64_t stride = vector_bytes(cache.shape().type, cache.shape().head_dim);
  runs.push_back({bank.keys(kv_head) + ordinals.begin * stride,
                  bank.values(kv_head) + ordinals.begin * stride,
                  ordinals.size(),
                  stride,
                  stride});
  n_run_tokens += ordinals.size();
}

void build_dense_job(
    const PagedKvCache& cache, int64_t layer, int64_t kv_head, int64_t last, HeadJob& job) {
  job.clear();
  job.add_raw(cache, layer, kv_head, {0, last + 1});
}

void build_masked_job(const PagedKvCache& cache,
                      int64_t layer,
                      int64_t kv_head,
                      const VisibleSet& visible,
                      HeadJob& job) {
  job.clear();
  job.add_raw(cache, layer, kv_head, visible.raw.sinks);
  job.add_raw(cache, layer, kv_head, visible.raw.rest);
  const int top = cache.shape().n_levels - 1;
  for (int level = 0; level < top; ++level) {
    const BankRanges& gists = visible.gists[static_cast<size_t>(level)];
    job.add_gists(cache, layer, level, kv_head, gists.sinks);
    job.add_gists(cache, layer, level, kv_head, gists.rest);
  }
  // Of the highest level a query sees all gists there are so far.
  const BankRanges& highest = visible.gists[static_cast<size_t>(top)];
  job.bank_end = std::max(highest.sinks.end, highest.rest.end);
}

}  // namespace ssa::cpu
