// Selective unfolding of one token and key/value head on the CPU: scan, top-k, descend, collect.
// selection/select.h is the reference; the sets are the same wherever scores differ by more than
// float32's rounding.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/cpu/head_job.h"
#include "selection/chunk_pivots.h"
#include "selection/select.h"
#include "selection/selection_options.h"

namespace ssa::cpu {

/// What a selection chooses from. Refers to what its owner keeps.
struct SelectionContext {
  const GistLayout& layout;
  const MaskRule& rule;
  const SelectionOptions& options;
  const PagedKvCache& cache;
  const ChunkPivots* pivots;                     // this layer's, for kMean and kQuest
  const std::vector<std::vector<float>>* order;  // [n_levels], for kRecent and kRandom
  bool has_gists;
  int64_t layer;
};

/// The query: all heads of one group.
struct GroupQuery {
  const float* q = nullptr;  // [group_size, head_dim]
  int64_t group_size = 0;
  int64_t kv_head = 0;
  int64_t index = 0;     // in the layout
  int64_t n_tokens = 0;  // the specification's N
  bool generated = false;
};

/// Scratch that is used again and again. The steps run in order; scan and keep_top may be shared
/// among threads (each with parts of its own), the rest is one thread's.
class ChunkSelection {
 public:
  void begin(const SelectionContext& context, const GroupQuery& query);

  /// Parts of the highest level's bank, for scan().
  int64_t n_tiles() const;
  void scan(int64_t tile_begin, int64_t tile_end);
  /// Choices to make on the highest level: one a head, or one for the group.
  int64_t n_choosers() const { return n_choosers_; }
  void keep_top(int64_t chooser);
  /// The levels below, and the keys to attend.
  void finish(HeadJob& job);

  /// Gists that were scored to choose among them.
  int64_t n_scored() const { return n_scored_; }
  /// What finish() kept.
  KeptGists kept() const;

 private:
  using Bits = std::vector<uint64_t>;
  struct Level {
    int64_t n = 0;       // gists
    int64_t stride = 0;  // of scores
    int64_t top_k = 0;
    std::vector<float> scores;  // [group_size, stride]: those that were asked for
    std::vector<Bits> bits;     // [n_choosers]
    Bits kept;                  // their union
  };
  Level& level(int i) { return levels_[static_cast<size_t>(i)]; }
  const Level& level(int i) const { return levels_[static_cast<size_t>(i)]; }
  int top() const { return static_cast<int>(levels_.size()) - 1; }
  bool by_order() const;
  const KeyBank& bank(int i) const;
  void score_range(int i, Range ordinals);
  void score_children(int i);
  void prefetch_keys(int i, Range ordinals) const;
  void choose(int i, int64_t chooser, const std::vector<Range>& competing);
  void combine_heads(int i, Range ordinals, float* out);
  void unite(int i);
  void keep_by_mass();
  void add_raw(HeadJob& job) const;
  void add_gists(HeadJob& job);
  void score_gist(int i, int64_t ordinal);

  const SelectionContext* context_ = nullptr;
  GroupQuery query_;
  int64_t n_choosers_ = 0;
  int64_t n_scored_ = 0;
  std::vector<Level> levels_;
  std::vector<float> low_scores_, low_q_, high_q_, gist_scores_;
  std::vector<std::vector<float>> compact_, scratch_;  // [n_choosers]
};

}  // namespace ssa::cpu
