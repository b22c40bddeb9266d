// Gists laid into an answer as it grows, so that a long one is compressed like the prompt in front
// of it.
#pragma once

#include "engine/chunked_attention.h"
#include "engine/sequence.h"
#include "gist/interleave.h"

namespace ssa {

/// Closes chunks of generated tokens by the rules that laid the prompt, but for one: the next word
/// cannot be known before it is generated, so a chunk ends at the first word boundary from its full
/// size on, and half as much later at the latest. What stands between the prefix and the answer
/// (the question) is closed as a chunk of its own when the first token has been generated.
class ChunkCloser {
 public:
  /// Refers to all of them; boundaries null: plain chunks.
  ChunkCloser(Sequence& sequence, ChunkedAttention& attention, const WordBoundaries* boundaries);

  /// Before generated token `next` is fed behind a token of rotary position `position`: feeds the
  /// gists that close here.
  void before(int64_t next, int64_t position);

 private:
  bool closes_before(int64_t next) const;
  void close(int level, int64_t position);

  Sequence& sequence_;
  ChunkedAttention& attention_;
  const WordBoundaries* boundaries_;
  bool is_first_ = true;
};

}  // namespace ssa
