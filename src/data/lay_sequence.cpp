#include "data/lay_sequence.h"

#include "gist/interleave.h"

namespace ssa {
namespace {

/// A layout that will hold no gists: any ids serve.
GistLayout raw_layout() {
  return GistLayout(ChunkSizes{1}, {kRawLevel});
}

GistLayout lay_prefix_of(const RawSequence& raw, const SequenceStyle& style) {
  if (style.gists) {
    InterleaveOptions options;
    options.boundaries = style.boundaries;
    options.bos_id = style.bos_id;
    return lay_pieces(raw.pieces, style.settings, options);
  }
  GistLayout layout = raw_layout();
  for (const std::vector<int64_t>& piece : raw.pieces) {
    layout.append_raw(piece);
  }
  return layout;
}

}  // namespace

TrainingSequence lay_sequence(const RawSequence& raw, const SequenceStyle& style) {
  GistLayout layout = lay_prefix_of(raw, style);
  layout.append_raw(raw.suffix);
  std::vector<int64_t> targets = next_raw_targets(layout, raw.first_target);
  return {std::move(layout), std::move(targets)};
}

std::vector<int64_t> next_raw_targets(const GistLayout& layout, int64_t first_target) {
  std::vector<int64_t> targets(static_cast<size_t>(layout.n_tokens()), kNoTarget);
  for (int64_t next = 1; next < layout.n_tokens(); ++next) {
    const bool is_raw = layout.levels()[static_cast<size_t>(next)] == kRawLevel;
    if (is_raw && layout.raw_before(next) >= first_target) {
      targets[static_cast<size_t>(next - 1)] = layout.ids()[static_cast<size_t>(next)];
    }
  }
  return targets;
}

}  // namespace ssa
