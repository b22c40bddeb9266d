// Layouts written as text. Raw tokens are letters, one each: an upper-case letter begins a word, a
// lower-case one does not; '^' is BOS. Gists are '.' (level 0), ':' (level 1) and '*' (level 2 and
// above). So "abc.de.:|f" holds a prefix of two level-0 chunks and one level-1 group; '|' parts
// pieces, or prefix and suffix, and is no token.
#pragma once

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "gist/gist_layout.h"
#include "gist/interleave.h"

namespace ssa {

inline constexpr int64_t kSpelledBos = '^';

inline std::vector<int64_t> ids_of(std::string_view text) {
  return {text.begin(), text.end()};
}

inline std::string spell(const GistLayout& layout) {
  return {layout.ids().begin(), layout.ids().end()};
}

inline WordBoundaries spelled_boundaries() {
  return find_word_boundaries(128, [](int64_t id) {
    const char letter = static_cast<char>(id);
    return 'A' <= letter && letter <= 'Z' ? " word" : "part";
  });
}

inline GistSettings spelled_settings(ChunkSizes chunk, int64_t sink, bool word_aware = false) {
  return {.token_ids = {'.', ':', '*'},
          .chunk = std::move(chunk),
          .sink = sink,
          .word_aware = word_aware};
}

inline std::vector<std::vector<int64_t>> pieces_of(std::string_view text) {
  std::vector<std::vector<int64_t>> pieces(1);
  for (const char letter : text) {
    if (letter == '|') {
      pieces.emplace_back();
    } else {
      pieces.back().push_back(letter);
    }
  }
  return pieces;
}

/// "abc.de.|f" with its gists read; everything behind '|' follows raw.
inline GistLayout read_layout(std::string_view text, const ChunkSizes& chunk) {
  const size_t bar = text.find('|');
  GistLayout layout = parse_laid(ids_of(text.substr(0, bar)), spelled_settings(chunk, 0));
  if (bar != std::string_view::npos) {
    layout.append_raw(ids_of(text.substr(bar + 1)));
  }
  return layout;
}

/// A layout as documents and generation make them: 1 to 3 levels, laid pieces of ragged length, a
/// raw suffix in which now and then a chunk closes; sometimes no gist at all. At most about 150
/// tokens.
inline GistLayout random_layout(std::mt19937& random) {
  const auto up_to = [&](int n) { return static_cast<int64_t>(random() % (n + 1U)); };
  ChunkSizes chunk(1 + random() % 3);
  for (int64_t& size : chunk) {
    size = 1 + up_to(4);
  }
  const WordBoundaries boundaries = spelled_boundaries();
  GistLayout layout(chunk, {'.', ':', '*'});
  const int64_t n_pieces = up_to(4);
  for (int64_t piece = 0; piece < n_pieces; ++piece) {
    std::vector<int64_t> ids(up_to(25));
    for (int64_t& id : ids) {
      id = random() % 3 == 0 ? 'A' : 'a';
    }
    append_piece(layout, ids, up_to(4), random() % 2 == 0 ? &boundaries : nullptr);
  }
  const int64_t n_suffix = up_to(15);
  for (int64_t i = 0; i < n_suffix; ++i) {
    layout.append_raw('s');
    for (int level = 0; level < layout.n_levels() && random() % 6 == 0; ++level) {
      layout.append_gist(level);
    }
  }
  return layout;
}

}  // namespace ssa
