#include "gist/mask.h"

#include <algorithm>

namespace ssa {
namespace {

int level_of(const GistLayout& layout, int64_t t) {
  return layout.levels()[static_cast<size_t>(t)];
}

bool higher_gist_between(const GistLayout& layout, int level, int64_t k, int64_t q) {
  for (int higher = level + 1; higher < layout.n_levels(); ++higher) {
    if (layout.chunk_of(higher, q + 1) > layout.chunk_of(higher, k + 1)) {
      return true;
    }
  }
  return false;
}

// The sinks that q sees, as indices.
Range visible_sinks(const GistLayout& layout, const MaskRule& rule, int64_t q) {
  return {0, std::min(sink_end(layout, rule), q + 1)};
}

// Indices of q's own and previous chunks behind the sinks; empty, ending at q + 1, for gists of
// level 1 and above.
Range visible_window(const GistLayout& layout, const MaskRule& rule, int64_t q) {
  if (level_of(layout, q) >= 1) {
    return {q + 1, q + 1};
  }
  const int64_t first_chunk = layout.chunk_of(0, q) - rule.previous_chunks;
  const int64_t begin =
      first_chunk <= 0 ? 0 : layout.gists(0)[static_cast<size_t>(first_chunk - 1)] + 1;
  return {std::max(begin, visible_sinks(layout, rule, q).end), q + 1};
}

// First gist of `level` that q sees by the rules on gists; the last one is the last that is not
// behind q. Below the highest level these are the gists of q's own group on the level above and of
// the previous groups. A gist sees the level just below it, and none of those further down: they
// lie behind itself, which closed them.
int64_t first_visible_gist(const GistLayout& layout, const MaskRule& rule, int level, int64_t q) {
  const int closer = level + 1;
  if (closer == layout.n_levels()) {
    return 0;
  }
  if (level_of(layout, q) > closer) {
    return layout.chunk_of(level, q + 1);
  }
  const int64_t first_group = layout.chunk_of(closer, q) - rule.previous_chunks;
  return first_group <= 0 ? 0 : layout.children(closer, first_group - 1).end;
}

void append_range(std::vector<Range>& ranges, Range range) {
  if (range.empty()) {
    return;
  }
  if (!ranges.empty() && ranges.back().end == range.begin) {
    ranges.back().end = range.end;
  } else {
    ranges.push_back(range);
  }
}

// Appends the indices of the gists in each bank's `rest` that lie before `end`, all banks merged in
// order.
void append_gists(std::vector<Range>& ranges,
                  const GistLayout& layout,
                  VisibleSet visible,
                  int64_t end) {
  while (true) {
    int64_t next = end;
    int next_level = kRawLevel;
    for (int level = 0; level < layout.n_levels(); ++level) {
      const Range rest = visible.gists[static_cast<size_t>(level)].rest;
      if (!rest.empty() && layout.gists(level)[static_cast<size_t>(rest.begin)] < next) {
        next = layout.gists(level)[static_cast<size_t>(rest.begin)];
        next_level = level;
      }
    }
    if (next_level == kRawLevel) {
      return;
    }
    append_range(ranges, {next, next + 1});
    ++visible.gists[static_cast<size_t>(next_level)].rest.begin;
  }
}

}  // namespace

int64_t sink_end(const GistLayout& layout, const MaskRule& rule) {
  if (rule.sink >= 0) {
    return std::min(rule.sink, layout.n_tokens());
  }
  return layout.n_gists(0) == 0
             ? 0
             : std::max<int64_t>(layout.gists(0).front() - layout.chunk_sizes()[0], 0);
}

bool may_attend(const GistLayout& layout, const MaskRule& rule, int64_t q, int64_t k) {
  const int q_level = level_of(layout, q);
  const int k_level = level_of(layout, k);
  const auto chunks_apart = [&](int level) {
    return layout.chunk_of(level, q) - layout.chunk_of(level, k);
  };
  if (k > q) {
    return false;
  }
  if (k < sink_end(layout, rule)) {
    return true;
  }
  if (q_level <= 0 && chunks_apart(0) <= rule.previous_chunks) {
    return true;
  }
  if (k_level == kRawLevel) {
    return false;
  }
  const int closer = k_level + 1;  // the level whose gists close groups of k's level
  if (closer == layout.n_levels() || !higher_gist_between(layout, k_level, k, q)) {
    return true;
  }
  if (q_level == closer && chunks_apart(closer) == 0) {
    return true;
  }
  return q_level <= closer && 1 <= chunks_apart(closer) &&
         chunks_apart(closer) <= rule.previous_chunks;
}

std::vector<uint8_t> dense_mask(const GistLayout& layout, const MaskRule& rule) {
  const int64_t n = layout.n_tokens();
  std::vector<uint8_t> mask;
  mask.reserve(static_cast<size_t>(n * n));
  for (int64_t q = 0; q < n; ++q) {
    for (int64_t k = 0; k < n; ++k) {
      mask.push_back(may_attend(layout, rule, q, k) ? 1 : 0);
    }
  }
  return mask;
}

VisibleSet visible_set(const GistLayout& layout, const MaskRule& rule, int64_t q) {
  const Range sinks = visible_sinks(layout, rule, q);
  const Range window = visible_window(layout, rule, q);
  VisibleSet visible;
  visible.raw = {{0, layout.raw_before(sinks.end)},
                 {layout.raw_before(window.begin), layout.raw_before(window.end)}};
  for (int level = 0; level < layout.n_levels(); ++level) {
    const int64_t n_sinks = layout.chunk_of(level, sinks.end);
    // The window shows its gists too; short pieces put more of them there than the rules on gists
    // show.
    const int64_t first =
        std::min(first_visible_gist(layout, rule, level, q), layout.chunk_of(level, window.begin));
    visible.gists[static_cast<size_t>(level)] = {
        {0, n_sinks}, {std::max(first, n_sinks), layout.chunk_of(level, q + 1)}};
  }
  return visible;
}

std::vector<Range> visible_ranges(const GistLayout& layout, const MaskRule& rule, int64_t q) {
  const Range window = visible_window(layout, rule, q);
  std::vector<Range> ranges;
  append_range(ranges, visible_sinks(layout, rule, q));
  append_gists(ranges, layout, visible_set(layout, rule, q), window.begin);
  append_range(ranges, window);
  return ranges;
}

}  // namespace ssa
