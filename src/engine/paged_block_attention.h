// Block-sparse attention on the CPU over a paged cache, by kernels of our own. Source: arXiv
// 2511.20102, section 3; engine/block_attention.h is the reference.
#pragma once

#include <vector>

#include "engine/block_observer.h"
#include "engine/paged_sequence.h"
#include "selection/block_means.h"
#include "selection/block_options.h"

namespace ssa {

/// Every query attends its own block and those whose mean key its group of heads wants most. The
/// blocks chosen are the reference's wherever importances differ by more than float32's rounding;
/// an importance that is not a number ranks below all numbers. Neither the pieces a prompt comes in
/// nor the number of threads change what is chosen. Not thread-safe.
class PagedBlockAttention : public SequenceAttention, public PagedSequence {
 public:
  /// The cache has no gists (n_levels 0). Throws Error for options out of range.
  PagedBlockAttention(PagedKvCache cache, const BlockOptions& options);

  Tensor attend(int64_t layer, const AttentionInput& in) override;
  void rewind(int64_t length) override;

  /// May be null; must outlive its use. Told after each attend() of each of its queries, in order.
  void set_observer(BlockObserver* observer) { observer_ = observer; }

  PagedKvCache& cache() override { return cache_; }
  /// Means are counted as `extra`.
  KvBytes bytes() const override;
  void fill_random(int64_t n) override;

 private:
  PagedKvCache cache_;
  const BlockOptions options_;
  cpu::PagedAttention attention_;
  std::vector<BlockMeans> means_;  // [n_layers]
  BlockObserver* observer_ = nullptr;
};

}  // namespace ssa
