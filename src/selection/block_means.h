// Means of the keys of complete blocks, kept as the cache keeps keys: what ranks blocks.
#pragma once

#include "kv/paged_kv_cache.h"

namespace ssa {

/// One layer's. Block b is the raw tokens [b * block_size, (b + 1) * block_size). Not thread-safe;
/// const methods are.
class BlockMeans {
 public:
  BlockMeans(const KvShape& shape, int64_t block_size);

  /// Takes in the blocks that were completed since the last call. Sums are float32, over keys as
  /// they are stored, and the mean is rounded to their type.
  void update(const PagedKvCache& cache, int64_t layer);
  /// Forgets blocks that hold raw tokens from n_raw on.
  void truncate(int64_t n_raw);

  /// In tiles, a row a complete block.
  const KeyBank& keys() const { return keys_; }
  int64_t stored_bytes() const { return keys_.stored_bytes(); }
  int64_t spare_bytes() const { return keys_.spare_bytes(); }

 private:
  KvShape shape_;
  int64_t block_size_;
  KeyBank keys_;
};

}  // namespace ssa
