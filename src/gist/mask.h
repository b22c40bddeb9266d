// Who sees whom under the gist mask: in training, in prefill of the prefix, and wherever nothing is
// unfolded.
//
// The layout of gist_layout.h's picture with sink 1 and one previous chunk (x visible, . hidden):
//
//               a b c g d e g G f g G h i
//   raw     a   x
//           b   x x
//           c   x x x
//   gist    g   x x x x
//   raw     d   x x x x x                  own and previous chunk whole
//           e   x x x x x x
//   gist    g   x x x x x x x
//   meta    G   x . . x . . x x            the sink, its children, and itself
//   raw     f   x . . x x x x x x          d e g: previous chunk; gists of the previous group
//   gist    g   x . . x x x x x x x
//   meta    G   x . . x . . x x . x x      gists of its own group and of the previous one
//   suffix  h   x . . . . . . x x x x x    own chunk: the suffix so far; gists 0, 1 too far back
//           i   x . . . . . . x x x x x x
//
// With the gists' keys stored apart from the raw ones (banks), a query sees one range of each bank
// and the sinks: a dense triangle over the bank of the highest level, a narrow band over the raw
// tokens and the other banks. VisibleSet is that structure.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "gist/gist_layout.h"

namespace ssa {

struct MaskRule {
  /// The first `sink` indices are seen by every later token, whatever stands there. Negative: all
  /// that stands before the first level-0 gist, but for the last chunk_sizes()[0] tokens (an
  /// instruction in front of the gisted text).
  int64_t sink = 3;
  /// Chunks before the own one that stay visible raw. At least 0.
  int64_t previous_chunks = 1;
};

/// The sinks are the indices [0, sink_end()), as far as the sequence goes. O(1).
int64_t sink_end(const GistLayout& layout, const MaskRule& rule);

/// The rule itself, as the specification words it: may token q see token k? O(levels).
bool may_attend(const GistLayout& layout, const MaskRule& rule, int64_t q, int64_t k);

/// may_attend() for all pairs: [n_tokens, n_tokens] row-major, rows are queries, 1 = visible. For
/// tests and for looking at: kernels use VisibleSet.
std::vector<uint8_t> dense_mask(const GistLayout& layout, const MaskRule& rule);

/// The ordinals of one bank that a query sees. Disjoint, sinks first; either may be empty.
struct BankRanges {
  Range sinks;
  Range rest;
};

/// All that one query sees, by bank.
struct VisibleSet {
  BankRanges raw;
  /// By level; empty above the layout's levels.
  std::array<BankRanges, kMaxGistLevels> gists;
};

/// What token q sees, itself included. O(levels), no allocation.
VisibleSet visible_set(const GistLayout& layout, const MaskRule& rule, int64_t q);

/// What token q sees as indices into the sequence: sorted ranges, none empty, no two touching.
/// O(levels * ranges).
std::vector<Range> visible_ranges(const GistLayout& layout, const MaskRule& rule, int64_t q);

}  // namespace ssa
