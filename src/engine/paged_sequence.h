// The ways of attending on the CPU over a paged cache, by kernels of our own: for float32 and
// bfloat16 models, keys and values kept as float32, bfloat16 or int8.
#pragma once

#include <memory>
#include <vector>

#include "engine/chunked_attention.h"
#include "engine/cpu/paged_attention.h"
#include "kv/paged_kv_cache.h"
#include "selection/chunk_pivots.h"

namespace ssa {

/// A cache for one sequence of the model, pages from a pool of its own unless one is given.
/// n_levels: of gists in the sequence.
PagedKvCache make_paged_cache(const ModelConfig& config,
                              KvType type,
                              int n_levels,
                              std::shared_ptr<PagePool> pool = nullptr);

/// A sequence whose keys and values are paged.
class PagedSequence {
 public:
  virtual ~PagedSequence() = default;
  /// Of keys and values, and of what stands for chunks where gists do not.
  virtual KvBytes bytes() const = 0;
  /// Takes the first n tokens as read, with random keys and values: for benchmarks.
  virtual void fill_random(int64_t n) = 0;
  virtual PagedKvCache& cache() = 0;
};

/// Every token attends all tokens up to itself.
class PagedFullAttention : public SequenceAttention, public PagedSequence {
 public:
  explicit PagedFullAttention(PagedKvCache cache);

  Tensor attend(int64_t layer, const AttentionInput& in) override;
  void rewind(int64_t length) override { cache_.truncate(length, {}); }
  KvBytes bytes() const override { return cache_.bytes(); }
  void fill_random(int64_t n) override;
  PagedKvCache& cache() override { return cache_; }

 private:
  PagedKvCache cache_;
  cpu::PagedAttention attention_;
};

/// Appends tokens of these levels to every layer, with random keys and values.
void append_random(PagedKvCache& cache, std::span<const int8_t> levels);

/// The same results as GistAttention's, up to rounding.
class PagedGistAttention : public ChunkedAttention, public PagedSequence {
 public:
  PagedGistAttention(PagedKvCache cache, GistLayout prompt, const GistAttentionOptions& options);

  void begin_pass(int64_t first, std::span<const int64_t> ids) override;
  Tensor attend(int64_t layer, const AttentionInput& in) override;
  void rewind(int64_t length) override;

  PagedKvCache& cache() override { return cache_; }
  KvBytes bytes() const override;
  void fill_random(int64_t n) override;

 private:
  void append(int64_t layer, const AttentionInput& in);
  Tensor unfold(int64_t layer, const AttentionInput& in);

  PagedKvCache cache_;
  cpu::PagedAttention attention_;
  std::vector<int8_t> pass_levels_;        // [n_pass]
  std::vector<ChunkPivots> pivots_;        // [n_layers], for kMean and kQuest
  std::vector<std::vector<float>> order_;  // [n_levels], for kRecent and kRandom
};

}  // namespace ssa
