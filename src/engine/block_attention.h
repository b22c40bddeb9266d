// Block-sparse attention for one sequence in plain LibTorch, and NSA's three branches over it.
#pragma once

#include "engine/block_observer.h"
#include "engine/kv_cache.h"
#include "engine/sequence.h"
#include "selection/block_options.h"

namespace ssa {

/// Every query attends its own block and those that selection/block_selection.h chooses. The
/// reference, on any device and in any dtype: keys, values and the means of complete blocks in
/// tensors, means made once, when the last key of their block arrives.
/// engine/paged_block_attention.h is the fast one. The pieces that tokens come in do not matter.
/// Source: arXiv 2511.20102. Not thread-safe.
class BlockSparseAttention : public SequenceAttention {
 public:
  /// `means`: an empty cache like the other one, for a token a block. Throws Error for options out
  /// of range.
  BlockSparseAttention(KvCache cache, KvCache means, const BlockOptions& options);

  /// May be null; must outlive its use. Told of each query in order, layer by layer.
  void set_observer(BlockObserver* observer) { observer_ = observer; }

  Tensor attend(int64_t layer, const AttentionInput& in) override;
  void rewind(int64_t length) override;

 protected:
  /// Takes in a pass's keys and values and what blocks they complete; the index of its first query.
  int64_t append(int64_t layer, const AttentionInput& in);
  /// Attention over the chosen blocks of a pass that has been appended.
  Tensor attend_selected(int64_t layer, const AttentionInput& in, int64_t first);

  const BlockOptions options_;
  KvCache cache_;
  KvCache means_;  // of keys and values, a row a complete block

 private:
  void report(int64_t layer, int64_t first, const Tensor& blocks);

  BlockObserver* observer_ = nullptr;
};

/// NSA (arXiv 2502.11089, as arXiv 2511.20102 runs it): three branches, each times its gate.
/// Compressed: softmax over the means of complete blocks, a query's own once it closes it; 0 where
/// none is complete. Selected: as above. Window: the last `window` tokens, the query's own
/// included.
class NsaAttention : public BlockSparseAttention {
 public:
  NsaAttention(KvCache cache, KvCache means, const BlockOptions& options, int64_t window);

  /// Throws Error: without gates there is nothing to weigh the branches by.
  Tensor attend(int64_t layer, const AttentionInput& in) override;
  Tensor attend_gated(int64_t layer, const AttentionInput& in, const Tensor& gates) override;

 private:
  Tensor attend_compressed(int64_t layer, const AttentionInput& in, int64_t first) const;
  Tensor attend_window(int64_t layer, const AttentionInput& in, int64_t first) const;

  const int64_t window_;
};

}  // namespace ssa
