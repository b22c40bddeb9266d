// Laying gists into raw text, and reading a sequence that already holds them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "gist/gist_layout.h"
#include "gist/gist_settings.h"
#include "gist/word_boundary.h"

namespace ssa {

/// Where the level-0 chunks of a piece of text end, as numbers of raw tokens: rising, the last one
/// ids.size(); empty for no text. The first `n_uncounted` tokens do not count, then every
/// `chunk_size` tokens end a chunk. With `boundaries` an end p inside a word moves to the next
/// place between words, if one lies within chunk_size / 2 tokens and before the end of the text,
/// but no more than half way (rounded up) to that end, even if that is inside a word; the next
/// chunk counts from there. `boundaries` may be null: plain counting. Throws Error for an id
/// outside its vocabulary. Runs in O(ids.size()).
std::vector<int64_t> find_chunk_ends(std::span<const int64_t> ids,
                                     int64_t chunk_size,
                                     int64_t n_uncounted,
                                     const WordBoundaries* boundaries);

/// Appends `ids` with gists: a level-0 gist at each of find_chunk_ends(), a level-i gist behind
/// every chunk_sizes()[i]-th gist of the level below, and every level closed at the end. No ids, no
/// gist. The layout must have nothing open on level 1 and above; open raw tokens (a bare BOS) join
/// the first chunk, uncounted.
void append_piece(GistLayout& layout,
                  std::span<const int64_t> ids,
                  int64_t n_uncounted,
                  const WordBoundaries* boundaries);

struct InterleaveOptions {
  /// Not owned. Must be given if the settings say word_aware.
  const WordBoundaries* boundaries = nullptr;
  /// Raw tokens at the start of the first piece that do not count. Absent: the settings' sink, 0 if
  /// that is negative (then the instruction's length belongs here).
  std::optional<int64_t> n_uncounted = {};
  /// The model's BOS. A first piece of it alone is an empty system text: no gist is laid behind it,
  /// and it joins the first chunk of the next piece, which still counts its own tokens alone.
  std::optional<int64_t> bos_id = {};
};

/// Lays each piece (system prompt, documents, ...) on its own, one behind the other: every piece
/// closes all levels. The suffix is appended to the result with append_raw(). Throws Error for
/// settings that do not fit each other.
GistLayout lay_pieces(std::span<const std::vector<int64_t>> pieces,
                      const GistSettings& settings,
                      const InterleaveOptions& options);

/// A prefix of one piece.
GistLayout lay_prefix(std::span<const int64_t> ids,
                      const GistSettings& settings,
                      const InterleaveOptions& options);

/// Reads ids that hold their gists, raw suffix included: <gist> is level 0, <Gist> level 1, <MGist>
/// the level above the gist before it. Throws Error naming id and index for a gist that closes
/// nothing or belongs to a level that the settings do not have.
GistLayout parse_laid(std::span<const int64_t> ids, const GistSettings& settings);

}  // namespace ssa
