#include "engine/chunk_closer.h"

namespace ssa {

ChunkCloser::ChunkCloser(Sequence& sequence,
                         ChunkedAttention& attention,
                         const WordBoundaries* boundaries)
    : sequence_(sequence), attention_(attention), boundaries_(boundaries) {}

bool ChunkCloser::closes_before(int64_t next) const {
  const GistLayout& layout = attention_.layout();
  const int64_t open = layout.n_open(0), size = layout.chunk_sizes()[0];
  if (is_first_ || open < size) {
    return is_first_ && open > 0;
  }
  const bool at_boundary = boundaries_ == nullptr || (*boundaries_)[static_cast<size_t>(next)];
  return at_boundary || open >= size + size / 2;
}

void ChunkCloser::before(int64_t next, int64_t position) {
  if (closes_before(next)) {
    const GistLayout& layout = attention_.layout();
    close(0, position);
    for (int level = 1; level < layout.n_levels() &&
                        layout.n_open(level) >= layout.chunk_sizes()[static_cast<size_t>(level)];
         ++level) {
      close(level, position);
    }
  }
  is_first_ = false;
}

void ChunkCloser::close(int level, int64_t position) {
  attention_.close_chunk(level);
  if (attention_.has_gists()) {
    const int64_t id = attention_.layout().gist_id(level);
    sequence_.advance({&id, 1}, {&position, 1}, 1, {});
  }
}

}  // namespace ssa
