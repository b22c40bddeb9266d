// Attention of one sequence's tokens over its paged cache on the CPU: dense, under the gist mask,
// unfolding, and over chosen blocks.
#pragma once

#include <functional>
#include <vector>

#include "engine/cpu/block_selection.h"
#include "engine/cpu/chunk_selection.h"
#include "engine/cpu/head_job.h"
#include "engine/cpu/team.h"

namespace ssa::cpu {

/// Consecutive tokens of one sequence in one layer.
struct QueryBlock {
  const float* q = nullptr;  // [n_tokens, n_heads, head_dim]
  float* out = nullptr;      // the same shape
  int64_t n_tokens = 0;
  int64_t n_heads = 0;
  float scale = 1.0F;
  int64_t layer = 0;
};

/// One choice, for those who look on.
struct Choice {
  KeptGists kept;        // empty unless asked for
  int64_t n_keys = 0;    // attended
  int64_t n_scored = 0;  // gists, or what stands for chunks
};

/// The same of blocks.
struct BlockChoice {
  std::vector<int64_t> blocks;  // ascending; empty unless asked for
  int64_t n_keys = 0;           // attended
  int64_t n_scored = 0;         // means
};

/// What unfold() has to know beside the block.
struct UnfoldOptions {
  int64_t first = 0;     // index in the layout of the block's first token
  int64_t n_prompt = 0;  // tokens of the prompt, gists of a sequence that has them included
  int64_t first_in_sequence = 0;  // of the block's first token
  bool wants_kept = false;
};

/// Owns scratch memory for its threads. Not thread-safe: one call at a time. A single token's work
/// is split over all threads within its heads; of several tokens each is one thread's.
class PagedAttention {
 public:
  explicit PagedAttention(int n_threads);

  /// Token i attends the raw tokens [0, first + i].
  void dense(const PagedKvCache& cache, const QueryBlock& block, int64_t first);
  /// By the gist mask; the block's first token has index `first` in the layout.
  void masked(const PagedKvCache& cache,
              const GistLayout& layout,
              const MaskRule& rule,
              const QueryBlock& block,
              int64_t first);
  /// By selective unfolding. Returns the choices of each token and key/value head: [n_tokens *
  /// n_kv_heads].
  const std::vector<Choice>& unfold(const SelectionContext& context,
                                    const QueryBlock& block,
                                    const UnfoldOptions& options);
  /// By block selection; token i has index first + i in the sequence, whose keys up to there are in
  /// the cache, and their means. Returns the choices of each token and key/value head: [n_tokens *
  /// n_kv_heads].
  const std::vector<BlockChoice>& sparse(const BlockContext& context,
                                         const QueryBlock& block,
                                         int64_t first,
                                         bool wants_blocks);

 private:
  using BuildJob = std::function<void(int64_t token, int64_t kv_head, HeadJob& job)>;
  struct StateBuffer {
    std::vector<float> largest, sum, out;
    SoftmaxState reset(int64_t n_rows, int64_t head_dim);
    SoftmaxState at(int64_t row, int64_t head_dim);
  };

  HeadShape head_shape(const PagedKvCache& cache, const QueryBlock& block) const;
  void run_tokens(const PagedKvCache& cache, const QueryBlock& block, const BuildJob& build);
  void attend_share(const Team& team, const PagedKvCache& cache, const QueryBlock& block);
  void attend_part(
      const PagedKvCache& cache, const QueryBlock& block, int64_t kv_head, Range keys, int rank);
  void merge_parts(const Team& team, const PagedKvCache& cache, const QueryBlock& block);
  void attend_whole(
      const PagedKvCache& cache, const QueryBlock& block, int64_t token, int64_t kv_head, int rank);
  void masked_rows(const PagedKvCache& cache,
                   const GistLayout& layout,
                   const MaskRule& rule,
                   const QueryBlock& block,
                   int64_t first,
                   int64_t kv_head,
                   Range tokens,
                   int rank);
  void unfold_token(const SelectionContext& context,
                    const QueryBlock& block,
                    const UnfoldOptions& options);
  void sparse_token(const BlockContext& context,
                    const QueryBlock& block,
                    int64_t first,
                    bool wants_blocks);

  int n_threads_;
  std::vector<HeadJob> jobs_;                     // a key/value head, or a thread
  std::vector<ChunkSelection> selections_;        // the same
  std::vector<BlockSelection> block_selections_;  // the same
  std::vector<StateBuffer> states_;               // [n_threads * n_kv_heads], or a thread
  std::vector<std::vector<KvRun>> runs_;          // a thread
  std::vector<std::vector<float>> rows_;          // a thread: gathered queries
  std::vector<std::vector<int64_t>> visible_;     // a thread
  std::vector<Choice> choices_;
  std::vector<BlockChoice> block_choices_;
};

}  // namespace ssa::cpu
