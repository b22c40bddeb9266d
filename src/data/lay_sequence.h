// From raw tokens to a training sequence: gists, and what each token is to predict.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "data/training_row.h"
#include "gist/gist_settings.h"
#include "gist/word_boundary.h"

namespace ssa {

/// How the sequences of one row are laid.
struct SequenceStyle {
  GistSettings settings;  // the row's chunk setting in it
  bool gists = true;
  const WordBoundaries* boundaries = nullptr;  // not owned; may be null unless word_aware
  std::optional<int64_t> bos_id = {};
};

/// Raw tokens of a sequence, in the order of the text.
struct RawSequence {
  std::vector<std::vector<int64_t>> pieces;  // of the prefix: each is gisted on its own
  std::vector<int64_t> suffix;
  /// Ordinal, among all raw tokens, of the first that is a target; no token predicts the first one.
  int64_t first_target = 0;
};

/// The pieces with gists (without, where the style has none), the suffix, and targets. Throws Error
/// as lay_pieces().
TrainingSequence lay_sequence(const RawSequence& raw, const SequenceStyle& style);

/// For each token the id behind it, if that is a raw token whose ordinal is first_target or more,
/// else kNoTarget: so of the gists between two raw tokens the last one predicts, and the raw token
/// in front of them does not. [layout.n_tokens()]
std::vector<int64_t> next_raw_targets(const GistLayout& layout, int64_t first_target);

}  // namespace ssa
