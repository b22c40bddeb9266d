// From scores to kept chunks, and from those to the keys a query attends.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gist/gist_layout.h"
#include "gist/mask.h"
#include "selection/selection_options.h"

namespace ssa {

/// Ordinals of the gists kept at each level, sorted: [n_levels][...].
using KeptGists = std::vector<std::vector<int64_t>>;

/// A layout and the sequence it describes. Where the checkpoint has no gists, the layout's gists
/// are not in the sequence: they only mark where chunks end.
struct ChunkView {
  const GistLayout& layout;
  bool has_gists = true;

  /// Indices in the sequence of a level-0 chunk's raw tokens.
  Range tokens(int64_t ordinal) const {
    return has_gists ? layout.chunk(0, ordinal) : layout.raw_tokens(ordinal);
  }
  /// Index in the sequence of the token at an index of the layout.
  int64_t index(int64_t layout_index) const {
    return has_gists ? layout_index : layout.raw_before(layout_index);
  }
};

/// One query's scores for one group of heads: scores[level] is [group_size, n_gists(level)],
/// row-major. Unscaled.
using GroupScores = std::vector<std::vector<double>>;

/// Keeps chunks from the highest level down: at each level the top_k[level] best of the children of
/// what was kept above (or the nucleus of options.mass). The higher score wins, then the lower
/// ordinal; NaN is never kept and uses up no place; where fewer compete than may be kept, all are.
/// Returns the union over the heads.
KeptGists select_gists(const GistLayout& layout,
                       const GroupScores& scores,
                       int64_t group_size,
                       std::span<const int64_t> top_k,  // [n_levels]
                       const SelectionOptions& options);

/// One score a gist for the whole group, from [group_size, n] scores of all gists of a level. A NaN
/// of any head makes the sums NaN; the maximum ignores it.
std::vector<double> combine_heads(std::span<const double> scores, int64_t group_size, SelectBy by);

/// Indices in the sequence of all keys that suffix token q (an index of the layout) attends,
/// rising: the raw tokens of the kept level-0 chunks, the kept gists, the sinks (a gist among them
/// at prefill only: `generated` false), the raw tokens that the gist mask shows q, and the suffix
/// up to q.
std::vector<int64_t> attended_keys(
    const ChunkView& view, const MaskRule& rule, const KeptGists& kept, int64_t q, bool generated);

}  // namespace ssa
