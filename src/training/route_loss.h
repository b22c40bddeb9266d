// Routing distillation: what makes gists good pivots. The share of a query's attention that each
// chunk would get under full attention teaches the gist's score. Ours, not the paper's.
#pragma once

#include <torch/types.h>

#include <span>
#include <vector>

#include "attention/attention.h"
#include "gist/gist_layout.h"
#include "gist/mask.h"

namespace ssa {

/// Which rows of a batch ask, teach and learn. Sequences are padded to the longest; padding points
/// at row 0. Index tensors are int64, pads bool; all on one device. Only sequences that have a
/// suffix and two chunks take part.
struct RoutePlan {
  struct Level {
    Tensor gist_rows;  // [n_sequences, n_gists]
    Tensor gist_pads;  // the same: is padding
    Tensor ends;       // [n_sequences, n_gists] keys up to the end of each gist's chunk
    Tensor weights;  // [n_sequences] float64: 1 / levels of the sequence, 0 where it has none here
  };
  Tensor query_rows;          // [n_sequences, n_queries]
  Tensor query_weights;       // the same, float64: 1 / queries of the sequence; padding: 0
  Tensor key_rows;            // [n_sequences, n_keys] raw tokens of the prefix behind the sinks
  Tensor key_pads;            // the same: is padding
  std::vector<Level> levels;  // empty: nothing to teach

  RoutePlan to(torch::Device device) const;
};

/// A layout and the row of the batch that its sequence starts at.
struct RoutedSequence {
  const GistLayout* layout = nullptr;
  int64_t first_row = 0;
};

/// n_queries of each suffix ask, evenly spaced, the last among them.
RoutePlan plan_routes(std::span<const RoutedSequence> sequences,
                      const MaskRule& rule,
                      int64_t n_queries);

/// The teacher is the softmax of q . k over a sequence's taught tokens, summed by chunk of a level,
/// without gradient; the student the softmax of q . k over the level's gists, same scale, with a
/// gradient to the gists' keys alone. Returns the sum over sequences of the mean over heads,
/// queries and levels of KL(teacher || student): [] float32 or better. The plan has levels.
Tensor route_loss(const AttentionInput& in, const RoutePlan& plan);

}  // namespace ssa
