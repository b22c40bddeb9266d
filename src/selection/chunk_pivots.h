// Means, and minima and maxima, of the raw keys of chunks, kept as the cache keeps keys: what ranks
// chunks where gists do not. selection/pivot_bank.h is the reference.
#pragma once

#include <vector>

#include "gist/gist_layout.h"
#include "kv/paged_kv_cache.h"
#include "selection/selection_options.h"

namespace ssa {

/// One layer's. Grows with the layout. Not thread-safe; const methods are.
class ChunkPivots {
 public:
  /// pivot: kMean or kQuest.
  ChunkPivots(Pivot pivot, const KvShape& shape, int n_levels);

  /// Takes in the chunks that closed since the last call, and forgets those that are no longer
  /// there. At a level above 0 a row covers all raw tokens below. Sums are float32.
  void update(const GistLayout& layout, const PagedKvCache& cache, int64_t layer);

  /// Forgets rows that cover raw tokens from n_raw on.
  void truncate(const GistLayout& layout, int64_t n_raw);

  /// Means, or maxima.
  const KeyBank& keys(int level) const { return levels_[static_cast<size_t>(level)].keys; }
  /// Minima (kQuest alone).
  const KeyBank& low(int level) const { return levels_[static_cast<size_t>(level)].low; }
  int64_t bytes() const;

 private:
  struct Level {
    KeyBank keys, low;
  };
  Pivot pivot_;
  KvShape shape_;
  std::vector<Level> levels_;
};

/// Scores of Pivot::kRecent or kRandom: the ordinal, or its place in a fixed shuffle. Whole
/// numbers, [n].
std::vector<float> order_scores(Pivot pivot, int64_t n);

/// Raw tokens (ordinals) under gist `ordinal` of `level`, at any level.
Range raw_tokens_below(const GistLayout& layout, int level, int64_t ordinal);

}  // namespace ssa
