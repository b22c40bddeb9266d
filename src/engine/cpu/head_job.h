// What one token attends through one key/value head, as the kernels take it.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/cpu/attend.h"
#include "gist/mask.h"
#include "kv/paged_kv_cache.h"

namespace ssa::cpu {

struct HeadJob {
  int64_t bank_end = 0;             // gists [0, bank_end) of the highest level
  std::vector<KvRun> runs;          // raw tokens, gists of lower levels
  std::vector<ScoredValue> scored;  // kept gists
  int64_t n_run_tokens = 0;

  void clear();
  /// Keys attended.
  int64_t n_keys() const { return bank_end + n_run_tokens + static_cast<int64_t>(scored.size()); }
  void add_raw(const PagedKvCache& cache, int64_t layer, int64_t kv_head, Range tokens);
  void add_gists(
      const PagedKvCache& cache, int64_t layer, int level, int64_t kv_head, Range ordinals);
};

/// All raw tokens up to and including the one numbered `last`.
void build_dense_job(
    const PagedKvCache& cache, int64_t layer, int64_t kv_head, int64_t last, HeadJob& job);

/// What the gist mask shows a query.
void build_masked_job(const PagedKvCache& cache,
                      int64_t layer,
                      int64_t kv_head,
                      const VisibleSet& visible,
                      HeadJob& job);

}  // namespace ssa::cpu
