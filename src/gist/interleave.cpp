#include "gist/interleave.h"

#include <algorithm>

#include "base/error.h"

namespace ssa {
namespace {

void check_vocabulary(std::span<const int64_t> ids, const WordBoundaries& boundaries) {
  const auto n_ids = static_cast<int64_t>(boundaries.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    check(ids[i] >= 0 && ids[i] < n_ids,
          "token id ",
          ids[i],
          " at index ",
          i,
          ": the vocabulary has ids 0 to ",
          n_ids - 1);
  }
}

// How far behind `place` (before the end of the text) the gist goes.
int64_t find_shift(std::span<const int64_t> ids,
                   int64_t place,
                   int64_t chunk_size,
                   const WordBoundaries& boundaries) {
  const int64_t n_left = static_cast<int64_t>(ids.size()) - place;
  for (int64_t shift = 0; shift <= chunk_size / 2 && shift < n_left; ++shift) {
    const int64_t next_id = ids[static_cast<size_t>(place + shift)];
    if (boundaries[static_cast<size_t>(next_id)]) {
      // Half way to the end, even inside a word: so were the published checkpoints trained.
      return std::min(shift, (n_left + 1) / 2);
    }
  }
  return 0;
}

// Level-0 gist, and those of the levels that it completes.
void close_chunk(GistLayout& layout) {
  layout.append_gist(0);
  for (int level = 1; level < layout.n_levels(); ++level) {
    if (layout.n_open(level) < layout.chunk_sizes()[static_cast<size_t>(level)]) {
      break;
    }
    layout.append_gist(level);
  }
}

void close_all(GistLayout& layout) {
  for (int level = 0; level < layout.n_levels(); ++level) {
    layout.append_gist(level);
  }
}

// Index of a piece that is nothing but BOS and has another piece behind it to join; pieces.size()
// if there is none. Only empty pieces may stand before it.
size_t find_bare_bos(std::span<const std::vector<int64_t>> pieces, std::optional<int64_t> bos_id) {
  const auto has_text = [](const std::vector<int64_t>& piece) { return !piece.empty(); };
  const auto first = std::find_if(pieces.begin(), pieces.end(), has_text);
  const bool is_bare = first != pieces.end() && first->size() == 1 && bos_id == first->front() &&
                       std::any_of(first + 1, pieces.end(), has_text);
  return static_cast<size_t>((is_bare ? first : pieces.end()) - pieces.begin());
}

const WordBoundaries* choose_boundaries(const GistSettings& settings,
                                        const InterleaveOptions& options) {
  if (!settings.word_aware) {
    return nullptr;
  }
  check(options.boundaries != nullptr,
        "word-aware chunks need a tokenizer; without one use --plain-chunks");
  return options.boundaries;
}

// The level that `id` stands for behind a token of level `previous`; kRawLevel if it is no gist.
int gist_level(int64_t id, std::span<const int64_t> token_ids, int previous) {
  const auto found = std::find(token_ids.begin(), token_ids.end(), id);
  if (found == token_ids.end()) {
    return kRawLevel;
  }
  const int level = static_cast<int>(found - token_ids.begin());
  return level < 2 ? level : std::max(level, previous + 1);
}

}  // namespace

std::vector<int64_t> find_chunk_ends(std::span<const int64_t> ids,
                                     int64_t chunk_size,
                                     int64_t n_uncounted,
                                     const WordBoundaries* boundaries) {
  check(chunk_size > 0, "chunk size ", chunk_size, " is not positive");
  check(n_uncounted >= 0, "number of uncounted tokens ", n_uncounted, " is negative");
  if (boundaries != nullptr) {
    check_vocabulary(ids, *boundaries);
  }
  const auto n = static_cast<int64_t>(ids.size());
  std::vector<int64_t> ends;
  int64_t begin = std::min(n_uncounted, n);
  while (n - begin > chunk_size) {
    const int64_t place = begin + chunk_size;
    begin = place + (boundaries == nullptr ? 0 : find_shift(ids, place, chunk_size, *boundaries));
    ends.push_back(begin);
  }
  if (n > 0) {
    ends.push_back(n);
  }
  return ends;
}

void append_piece(GistLayout& layout,
                  std::span<const int64_t> ids,
                  int64_t n_uncounted,
                  const WordBoundaries* boundaries) {
  int64_t begin = 0;
  for (const int64_t end : find_chunk_ends(ids, layout.chunk_sizes()[0], n_uncounted, boundaries)) {
    layout.append_raw(ids.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
    if (end < static_cast<int64_t>(ids.size())) {
      close_chunk(layout);
    } else {
      close_all(layout);
    }
    begin = end;
  }
}

GistLayout lay_pieces(std::span<const std::vector<int64_t>> pieces,
                      const GistSettings& settings,
                      const InterleaveOptions& options) {
  const WordBoundaries* boundaries = choose_boundaries(settings, options);
  const int64_t n_uncounted = options.n_uncounted.value_or(std::max<int64_t>(settings.sink, 0));
  GistLayout layout(settings.chunk, settings.token_ids);
  const size_t bare_bos = find_bare_bos(pieces, options.bos_id);
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (i == bare_bos) {
      layout.append_raw(pieces[i]);
    } else {
      append_piece(layout, pieces[i], i == 0 ? n_uncounted : 0, boundaries);
    }
  }
  return layout;
}

GistLayout lay_prefix(std::span<const int64_t> ids,
                      const GistSettings& settings,
                      const InterleaveOptions& options) {
  const std::vector<int64_t> piece(ids.begin(), ids.end());
  return lay_pieces({&piece, 1}, settings, options);
}

GistLayout parse_laid(std::span<const int64_t> ids, const GistSettings& settings) {
  GistLayout layout(settings.chunk, settings.token_ids);
  int previous = kRawLevel;
  for (const int64_t id : ids) {
    previous = gist_level(id, layout.token_ids(), previous);
    if (previous == kRawLevel) {
      layout.append_raw(id);
    } else {
      layout.append_gist(previous);
    }
  }
  return layout;
}

}  // namespace ssa
