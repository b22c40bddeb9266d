#include "gist/gist_layout.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"

namespace ssa {
namespace {

constexpr int kLastTokenLevel = 2;  // <MGist>'s; the levels above share it
constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();

}  // namespace

GistLayout::GistLayout(ChunkSizes chunk, std::vector<int64_t> token_ids)
    : chunk_(std::move(chunk)), token_ids_(std::move(token_ids)) {
  check_chunk_sizes(chunk_, "gist layout");
  const int n_needed = std::min(n_levels(), kLastTokenLevel + 1);
  check(std::cmp_greater_equal(token_ids_.size(), n_needed),
        "chunk setting ",
        format_chunk_sizes(chunk_),
        " needs ",
        n_needed,
        " gist tokens, ",
        token_ids_.size(),
        " are known");
  levels_of_gists_.resize(chunk_.size());
  for (Level& level : levels_of_gists_) {
    level.before.push_back(0);
  }
}

void GistLayout::append_raw(int64_t id) {
  check_room();
  ++n_raw_;
  append(id, kRawLevel);
}

void GistLayout::append_raw(std::span<const int64_t> ids) {
  for (const int64_t id : ids) {
    append_raw(id);
  }
}

void GistLayout::append_gist(int level) {
  check(level >= 0 && level < n_levels(),
        "gist of level ",
        level,
        " at index ",
        n_tokens(),
        ": chunk setting ",
        format_chunk_sizes(chunk_),
        " has levels 0 to ",
        n_levels() - 1);
  const int below = levels_.empty() ? -2 : levels_.back();
  check(level > 0 || below == kRawLevel,
        "gist of level 0 at index ",
        n_tokens(),
        ": expected behind a raw token");
  check(level == 0 || below == level - 1,
        "gist of level ",
        level,
        " at index ",
        n_tokens(),
        ": expected behind a gist of level ",
        level - 1);
  check_room();
  const int64_t begin = open_begin(level);
  Level& own = levels_of_gists_[static_cast<size_t>(level)];
  own.begins.push_back(begin);
  own.gists.push_back(n_tokens());
  append(gist_id(level), level);
}

void GistLayout::check_room() const {
  check(n_tokens() < kMaxTokens, "sequence of more than ", kMaxTokens, " tokens");
}

void GistLayout::append(int64_t id, int level) {
  ids_.push_back(id);
  positions_.push_back(n_raw_ - 1);
  levels_.push_back(static_cast<int8_t>(level));
  for (Level& each : levels_of_gists_) {
    each.before.push_back(static_cast<int32_t>(each.gists.size()));
  }
}

int64_t GistLayout::gist_id(int level) const {
  return token_ids_[static_cast<size_t>(std::min(level, kLastTokenLevel))];
}

int64_t GistLayout::raw_before(int64_t t) const {
  if (t == n_tokens()) {
    return n_raw_;
  }
  // A raw token's position is its own ordinal; a gist's is that of the raw token before it.
  const auto i = static_cast<size_t>(t);
  return positions_[i] + (levels_[i] == kRawLevel ? 0 : 1);
}

Range GistLayout::chunk(int level, int64_t ordinal) const {
  const auto i = static_cast<size_t>(ordinal);
  return {at(level).begins[i], at(level).gists[i]};
}

Range GistLayout::children(int level, int64_t ordinal) const {
  const Range span = chunk(level, ordinal);
  return {chunk_of(level - 1, span.begin), chunk_of(level - 1, span.end)};
}

Range GistLayout::raw_tokens(int64_t ordinal) const {
  const Range span = chunk(0, ordinal);
  return {raw_before(span.begin), raw_before(span.end)};
}

int64_t GistLayout::parent(int level, int64_t ordinal) const {
  if (level + 1 == n_levels()) {
    return -1;
  }
  const int64_t closer = chunk_of(level + 1, gists(level)[static_cast<size_t>(ordinal)]);
  return closer < n_gists(level + 1) ? closer : -1;
}

int64_t GistLayout::n_open(int level) const {
  const int64_t closed_at = gists(level).empty() ? 0 : gists(level).back();
  return level == 0 ? n_raw_ - raw_before(closed_at)
                    : n_gists(level - 1) - chunk_of(level - 1, closed_at);
}

int64_t GistLayout::prefix_end() const {
  const std::span<const int64_t> top = gists(n_levels() - 1);
  return top.empty() ? 0 : top.back() + 1;
}

// Where the chunk begins that the next gist of `level` closes; it closes at least one thing.
int64_t GistLayout::open_begin(int level) const {
  if (level == 0) {
    return n_tokens() -
           n_open(0);  // the open raw tokens are the last ones: nothing stands between them
  }
  return gists(level - 1)[static_cast<size_t>(n_gists(level - 1) - n_open(level))];
}

std::vector<GistChunk> list_chunks(const GistLayout& layout) {
  std::vector<GistChunk> chunks;
  for (int64_t t = 0; t < layout.n_tokens(); ++t) {
    const int level = layout.levels()[static_cast<size_t>(t)];
    if (level != kRawLevel) {
      chunks.push_back({level, layout.chunk(level, layout.chunk_of(level, t))});
    }
  }
  return chunks;
}

}  // namespace ssa
