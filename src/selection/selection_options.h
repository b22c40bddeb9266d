// How many chunks a query unfolds, and by what it ranks them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace ssa {

/// What stands for a chunk when a query ranks chunks.
enum class Pivot {
  kGist,    // the gist's key
  kMean,    // the mean of the raw keys under it
  kQuest,   // the upper bound of q . k over those keys, from their minimum and maximum by channel
            // (arXiv 2406.10774)
  kRecent,  // later is better
  kRandom,  // a fixed shuffle
};

/// Who chooses: every head for itself and the union is attended, or the heads of a group together.
enum class SelectBy {
  kHead,
  kGroupSum,      // by the sum of the heads' scores
  kGroupMax,      // by their maximum
  kGroupSoftmax,  // by the sum of each head's softmax over all gists of the level
};

/// Sources: arXiv 2604.20920, section 3.3; docs/gist_attention.md. At most one of ratio, budget and
/// mass is set; with none the ratio is that of the chunk sizes.
struct SelectionOptions {
  Pivot pivot = Pivot::kGist;
  SelectBy by = SelectBy::kHead;
  std::optional<double> ratio =
      {};  // in k = floor(N / ratio / G / c0) + 1, capped by a quarter of the level's gists
  std::optional<int64_t> budget =
      {};  // tokens a key/value head and step: k = max(1, floor(budget / (G * c0))), no cap
  std::optional<double> mass =
      {};                   // nucleus: the best chunks up to this share of the softmax; 1 keeps all
  int64_t upper_top_k = 3;  // k of levels 2 and above
};

/// k of one level. n_tokens is the specification's N, gists included; group_size its G; n_gists all
/// gists of the level.
int64_t top_k_of_level(const SelectionOptions& options,
                       int level,
                       int64_t n_tokens,
                       int64_t n_gists,
                       int64_t group_size,
                       std::span<const int64_t> chunk_sizes);

}  // namespace ssa
