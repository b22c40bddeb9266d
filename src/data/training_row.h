// What a training step is made of.
#pragma once

#include <cstdint>
#include <vector>

#include "gist/gist_layout.h"

namespace ssa {

/// A target that counts for nothing.
inline constexpr int64_t kNoTarget = -100;

/// One sequence: it attends nothing outside itself, and its positions start at 0. Without gists
/// (plain language modelling) the layout holds raw tokens alone.
struct TrainingSequence {
  GistLayout layout;
  /// What each token is to predict, [layout.n_tokens()]: the id behind it if that is a raw token
  /// which the loss is wanted on, else kNoTarget. A gist is never a target (arXiv 2604.20920; the
  /// published code's labels).
  std::vector<int64_t> targets;
};

/// A row holds so many raw tokens, in one sequence or in several packed behind each other.
struct TrainingRow {
  std::vector<TrainingSequence> sequences;

  int64_t n_raw() const {
    int64_t n = 0;
    for (const TrainingSequence& sequence : sequences) {
      n += sequence.layout.n_raw();
    }
    return n;
  }
};

}  // namespace ssa
