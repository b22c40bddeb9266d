// Where the gists of a sequence sit, and what each of them closes.
//
// Chunk sizes 2,2 and sink 1, prefix "abcdef", suffix "hi"; g, G: gists of level 0 and 1:
//
//   index          0   1   2   3   4   5   6   7   8   9  10 |  11  12
//   ids            a   b   c   g   d   e   g   G   f   g   G |   h   i
//   level         -1  -1  -1   0  -1  -1   0   1  -1   0   1 |  -1  -1
//   position       0   1   2   2   3   4   4   4   5   5   5 |   6   7
//   chunk_of(0)    0   0   0   0   1   1   1   2   2   2   3 |   3   3
//   chunk_of(1)    0   0   0   0   0   0   0   0   1   1   1 |   2   2
//
//   level 0 chunks [ a   b   c ] g [ d   e ] g       [ f ] g        [0, 3)  [4, 6)  [8, 9)
//   level 1 chunks             [ g           g ] G       [ g ] G    [3, 7)  [9, 10)
//           children           [ 0           1 ]         [ 2 ]      [0, 2)  [2, 3)
//
// - A gist closes all that is open on the level below: a level-0 gist the raw tokens behind the
//   previous level-0 gist (sinks and a bare BOS included), a level-i gist the level-(i-1) gists
//   behind the previous level-i gist. So gists stand in runs g G M M ..., each run behind a raw
//   token, and no chunk is empty.
// - Indices number all tokens of the sequence, ordinals the gists of one level (a "bank") or the
//   raw tokens; both from 0.
// - The level is known here and not by the id: levels above 2 share <MGist>, and a raw token may
//   have any id.
// - A layout holds one sequence and no padding.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gist/gist_settings.h"

namespace ssa {

/// Level of a token that is no gist.
inline constexpr int kRawLevel = -1;

/// Half-open [begin, end); empty if begin == end.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t size() const { return end - begin; }
  bool empty() const { return begin == end; }
  bool contains(int64_t i) const { return begin <= i && i < end; }
  bool operator==(const Range&) const = default;
};

/// A sequence that holds its gists. Grows at the end, in O(levels) a token, amortised; 17 + 4 *
/// levels bytes a token. Const methods are O(1) and safe from many threads. Indices, ordinals and
/// levels that are out of range are a bug of the caller and are not checked.
class GistLayout {
 public:
  /// An empty sequence. `token_ids`: <gist>, <Gist>, <MGist>, as many of them as the levels need.
  /// Throws Error for invalid chunk sizes and for more levels than the gist tokens can mark.
  GistLayout(ChunkSizes chunk, std::vector<int64_t> token_ids);

  /// Appends raw tokens: the suffix, or the text of a chunk still to be closed. The ids are not
  /// looked at. Throws Error if the sequence would pass 2^31 - 1 tokens.
  void append_raw(int64_t id);
  void append_raw(std::span<const int64_t> ids);

  /// Appends a gist, which closes what is open on the level below. Throws Error unless it stands
  /// behind a raw token (level 0) or a gist of the level below, or if the layout has no such level.
  void append_gist(int level);

  // The whole sequence, [n_tokens] each.
  int64_t n_tokens() const { return static_cast<int64_t>(ids_.size()); }
  std::span<const int64_t> ids() const { return ids_; }
  std::span<const int64_t> positions() const { return positions_; }  // rotary; gists use up none
  std::span<const int8_t> levels() const { return levels_; }         // kRawLevel for raw tokens

  int n_levels() const { return static_cast<int>(chunk_.size()); }
  const ChunkSizes& chunk_sizes() const { return chunk_; }
  std::span<const int64_t> token_ids() const { return token_ids_; }
  /// The id that a gist of `level` has.
  int64_t gist_id(int level) const;

  int64_t n_raw() const { return n_raw_; }
  int64_t n_gists(int level) const { return static_cast<int64_t>(gists(level).size()); }
  int64_t n_gists() const { return n_tokens() - n_raw_; }
  /// The index of each gist of `level`: [n_gists(level)].
  std::span<const int64_t> gists(int level) const { return at(level).gists; }

  /// chunk_i(t): gists of `level` strictly before index t, in [0, n_tokens()]. A gist is thus in
  /// the chunk it closes.
  int64_t chunk_of(int level, int64_t t) const { return at(level).before[static_cast<size_t>(t)]; }
  /// chunk_of() as an array: [n_tokens + 1].
  std::span<const int32_t> chunk_of(int level) const { return at(level).before; }
  /// Raw tokens strictly before index t, in [0, n_tokens()]: the ordinal of the raw token there.
  int64_t raw_before(int64_t t) const;

  /// Indices of what gist `ordinal` of `level` closes: from the first raw token, or the first gist
  /// of the level below (with all that stands between), up to the gist itself.
  Range chunk(int level, int64_t ordinal) const;
  /// Ordinals of the gists that it closes, in the bank of level - 1. level >= 1.
  Range children(int level, int64_t ordinal) const;
  /// Ordinals of the raw tokens that level-0 gist `ordinal` closes.
  Range raw_tokens(int64_t ordinal) const;
  /// Ordinal of the level + 1 gist that closes it; -1 where none does (yet), as on the highest
  /// level.
  int64_t parent(int level, int64_t ordinal) const;

  /// What the next gist of `level` would close: raw tokens (level 0) or gists of the level below.
  int64_t n_open(int level) const;
  /// One behind the last gist of the highest level, 0 if there is none: the suffix begins here.
  int64_t prefix_end() const;

 private:
  struct Level {
    std::vector<int64_t> gists;   // index of each gist
    std::vector<int64_t> begins;  // index at which its chunk begins
    std::vector<int32_t> before;  // [n_tokens + 1]: gists of this level before each index
  };

  const Level& at(int level) const { return levels_of_gists_[static_cast<size_t>(level)]; }
  void check_room() const;
  void append(int64_t id, int level);
  int64_t open_begin(int level) const;

  ChunkSizes chunk_;
  std::vector<int64_t> token_ids_;
  std::vector<int64_t> ids_;
  std::vector<int64_t> positions_;
  std::vector<int8_t> levels_;
  std::vector<Level> levels_of_gists_;
  int64_t n_raw_ = 0;
};

/// One gist of any level and what it closes, as GistLayout::chunk().
struct GistChunk {
  int level = 0;
  Range range;
  bool operator==(const GistChunk&) const = default;
};

/// Every gist's chunk, in order of the gists' indices.
std::vector<GistChunk> list_chunks(const GistLayout& layout);

}  // namespace ssa
