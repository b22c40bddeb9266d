// Block selection of a few tokens and one key/value head on the CPU: scan of the means, ranking,
// and the keys to attend. selection/block_selection.h is the reference.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/cpu/head_job.h"
#include "selection/block_means.h"
#include "selection/cpu/block_ranking.h"

namespace ssa::cpu {

/// What a selection chooses from. Refers to what its owner keeps.
struct BlockContext {
  const PagedKvCache& cache;
  const BlockMeans& means;  // this layer's
  const BlockOptions& options;
  int64_t layer;
};

/// Scratch that is used again and again. The steps run in order, scan() and weigh() each over all
/// parts before the next; parts may be shared among threads, the rest is one thread's.
class BlockSelection {
 public:
  /// q: the rows of the first token; those of the next lie token_stride floats behind. At most 64
  /// rows.
  void begin(const BlockContext& context,
             const BlockQueries& queries,
             const float* q,
             int64_t token_stride,
             int64_t kv_head);

  int64_t n_parts() const { return ranking_.n_parts(); }
  void scan(int64_t part);
  void weigh(int64_t part) { ranking_.weigh(part); }
  /// The token's blocks, and their keys up to the token as the job.
  void finish(int64_t token, HeadJob& job);

  /// What finish() chose, ascending.
  const std::vector<int64_t>& blocks() const { return blocks_; }
  int64_t n_scored(int64_t token) const { return ranking_.n_ranked(token); }

 private:
  const BlockContext* context_ = nullptr;
  BlockQueries queries_;
  int64_t kv_head_ = 0;
  std::vector<float> q_;  // [n_rows, head_dim]
  BlockRanking ranking_;
  std::vector<int64_t> blocks_;
};

}  // namespace ssa::cpu
