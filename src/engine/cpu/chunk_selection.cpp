#include "engine/cpu/chunk_selection.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "selection/cpu/score.h"
#include "selection/cpu/top_k.h"

namespace ssa::cpu {
namespace {

constexpr size_t kPrefetchedRanges =
    6;  // groups of children under way from memory while one is scored
constexpr int64_t kUnfoldingSink = 3;  // what unfolding uses where the mask's sink is negative

int64_t words(int64_t n) {
  return (n + 63) / 64;
}

bool is_set(const std::vector<uint64_t>& bits, int64_t i) {
  return (bits[static_cast<size_t>(i / 64)] >> (i % 64) & 1) != 0;
}

void set(std::vector<uint64_t>& bits, int64_t i) {
  bits[static_cast<size_t>(i / 64)] |= uint64_t{1} << (i % 64);
}

template <class Fn>
void for_each_set(const std::vector<uint64_t>& bits, const Fn& fn) {
  for (size_t word = 0; word < bits.size(); ++word) {
    for (uint64_t rest = bits[word]; rest != 0; rest &= rest - 1) {
      fn(static_cast<int64_t>(word * 64) + std::countr_zero(rest));
    }
  }
}

int64_t count_set(const std::vector<uint64_t>& bits) {
  int64_t n = 0;
  for (const uint64_t word : bits) {
    n += std::popcount(word);
  }
  return n;
}

/// Ordinals of the children of what is kept, neighbouring groups joined.
std::vector<Range> children_of(const GistLayout& layout,
                               int level,
                               const std::vector<uint64_t>& kept) {
  std::vector<Range> ranges;
  for_each_set(kept, [&](int64_t gist) {
    const Range children = layout.children(level, gist);
    if (!ranges.empty() && ranges.back().end == children.begin) {
      ranges.back().end = children.end;
    } else {
      ranges.push_back(children);
    }
  });
  return ranges;
}

/// Splits q into its positive and its negative part: max(q * low, q * high) is q * high where q >
/// 0, else q * low.
void split_signs(const float* q,
                 size_t n,
                 std::vector<float>& positive,
                 std::vector<float>& negative) {
  positive.resize(n);
  negative.resize(n);
  for (size_t i = 0; i < n; ++i) {
    positive[i] = std::max(q[i], 0.0F);
    negative[i] = std::min(q[i], 0.0F);
  }
}

}  // namespace

bool ChunkSelection::by_order() const {
  return context_->order != nullptr;
}

const KeyBank& ChunkSelection::bank(int i) const {
  return context_->pivots != nullptr ? context_->pivots->keys(i)
                                     : context_->cache.bank(context_->layer, i);
}

void ChunkSelection::begin(const SelectionContext& context, const GroupQuery& query) {
  context_ = &context;
  query_ = query;
  n_choosers_ = context.options.by == SelectBy::kHead ? query.group_size : 1;
  const GistLayout& layout = context.layout;
  levels_.resize(static_cast<size_t>(layout.n_levels()));
  for (int i = 0; i <= top(); ++i) {
    Level& of = level(i);
    of.n = layout.n_gists(i);
    of.stride = (of.n / kTileKeys + 1) * kTileKeys;
    of.top_k = top_k_of_level(
        context.options, i, query.n_tokens, of.n, query.group_size, layout.chunk_sizes());
    of.scores.resize(static_cast<size_t>(query.group_size * of.stride));
    of.bits.resize(static_cast<size_t>(n_choosers_));
    for (Bits& bits : of.bits) {
      bits.assign(static_cast<size_t>(words(of.n)), 0);
    }
    of.kept.assign(static_cast<size_t>(words(of.n)), 0);
  }
  n_scored_ = levels_.back().n;
  compact_.resize(static_cast<size_t>(n_choosers_));
  scratch_.resize(static_cast<size_t>(n_choosers_));
  if (context.options.pivot == Pivot::kQuest) {
    const auto n = static_cast<size_t>(query.group_size * context.cache.shape().head_dim);
    split_signs(query.q, n, high_q_, low_q_);
    low_scores_.resize(static_cast<size_t>(query.group_size * level(top()).stride));
  }
}

int64_t ChunkSelection::n_tiles() const {
  return (levels_.back().n + kTileKeys - 1) / kTileKeys;
}

void ChunkSelection::scan(int64_t tile_begin, int64_t tile_end) {
  const Range ordinals{tile_begin * kTileKeys, std::min(tile_end * kTileKeys, level(top()).n)};
  if (ordinals.begin < ordinals.end) {
    score_range(top(), ordinals);
  }
}

void ChunkSelection::score_range(int i, Range ordinals) {
  Level& of = level(i);
  const int64_t group = query_.group_size, n = ordinals.size();
  float* scores = of.scores.data() + ordinals.begin;
  if (by_order()) {
    const float* order = (*context_->order)[static_cast<size_t>(i)].data() + ordinals.begin;
    for (int64_t head = 0; head < group; ++head) {
      std::copy_n(order, n, scores + head * of.stride);
    }
    return;
  }
  const KvShape& shape = context_->cache.shape();
  const ScoreKernels& kernels = score_kernels(instruction_set());
  const auto score = [&](const KeyBank& keys, const float* q, float* out) {
    const std::byte* first =
        keys.keys(query_.kv_head) + ordinals.begin * vector_bytes(shape.type, shape.head_dim);
    if (keys.order() == KeyOrder::kTiles) {
      kernels.score_tiles(shape.type, shape.head_dim, q, group, first, n, out, of.stride);
    } else {
      kernels.score_vectors(shape.type,
                            shape.head_dim,
                            q,
                            group,
                            first,
                            vector_bytes(shape.type, shape.head_dim),
                            n,
                            out,
                            of.stride);
    }
  };
  if (context_->options.pivot != Pivot::kQuest) {
    score(bank(i), query_.q, scores);
    return;
  }
  low_scores_.resize(std::max(low_scores_.size(), of.scores.size()));
  float* low = low_scores_.data() + ordinals.begin;
  score(bank(i), high_q_.data(), scores);
  score(context_->pivots->low(i), low_q_.data(), low);
  for (int64_t head = 0; head < group; ++head) {
    for (int64_t gist = 0; gist < n; ++gist) {
      scores[head * of.stride + gist] += low[head * of.stride + gist];
    }
  }
}

void ChunkSelection::keep_top(int64_t chooser) {
  if (!context_->options.mass) {
    choose(top(), chooser, {{0, level(top()).n}});
  }
}

void ChunkSelection::combine_heads(int i, Range ordinals, float* out) {
  const Level& of = level(i);
  const SelectBy by = context_->options.by;
  if (by == SelectBy::kGroupSoftmax) {  // over the whole level, whatever competes
    std::vector<double> scores;
    for (int64_t head = 0; head < query_.group_size; ++head) {
      const float* row = of.scores.data() + head * of.stride;
      scores.insert(scores.end(), row, row + of.n);
    }
    const std::vector<double> combined = ssa::combine_heads(scores, query_.group_size, by);
    std::copy(combined.begin() + ordinals.begin, combined.begin() + ordinals.end, out);
    return;
  }
  for (int64_t gist = ordinals.begin; gist < ordinals.end; ++gist) {
    double combined = by == SelectBy::kGroupMax ? std::numeric_limits<double>::quiet_NaN() : 0.0;
    for (int64_t head = 0; head < query_.group_size; ++head) {
      const double score = of.scores[static_cast<size_t>(head * of.stride + gist)];
      combined = by == SelectBy::kGroupMax ? std::fmax(combined, score) : combined + score;
    }
    *out++ = static_cast<float>(combined);
  }
}

void ChunkSelection::choose(int i, int64_t chooser, const std::vector<Range>& competing) {
  Level& of = level(i);
  const auto place = static_cast<size_t>(chooser);
  const TopKKernels& kernels = top_k_kernels(instruction_set());
  const bool by_head = context_->options.by == SelectBy::kHead;
  const bool whole = i == top();
  std::vector<float>&compact = compact_[place], &scratch = scratch_[place];
  int64_t n = 0;
  for (const Range& range : competing) {
    n += range.size();
  }
  scratch.resize(std::max(scratch.size(), static_cast<size_t>(n) + 64));
  const float* row = of.scores.data() + chooser * of.stride;
  if (by_head && whole) {
    kernels.top_k(row, n, of.top_k, of.bits[place].data(), scratch.data());
    return;
  }
  compact.resize(static_cast<size_t>(n));
  float* next = compact.data();
  for (const Range& range : competing) {
    if (by_head) {
      std::copy(row + range.begin, row + range.end, next);
    } else {
      combine_heads(i, range, next);
    }
    next += range.size();
  }
  if (whole) {
    kernels.top_k(compact.data(), n, of.top_k, of.bits[place].data(), scratch.data());
    return;
  }
  Bits chosen(static_cast<size_t>(words(n)));
  kernels.top_k(compact.data(), n, of.top_k, chosen.data(), scratch.data());
  int64_t before = 0;
  for (const Range& range : competing) {
    for (int64_t gist = range.begin; gist < range.end; ++gist, ++before) {
      if (is_set(chosen, before)) {
        set(of.bits[place], gist);
      }
    }
  }
}

void ChunkSelection::unite(int i) {
  Level& of = level(i);
  for (const Bits& bits : of.bits) {
    for (size_t word = 0; word < bits.size(); ++word) {
      of.kept[word] |= bits[word];
    }
  }
}

void ChunkSelection::score_children(int i) {
  const SelectionOptions& options = context_->options;
  if (options.mass || options.by == SelectBy::kGroupSoftmax) {
    score_range(i, {0, level(i).n});
    n_scored_ += level(i).n;
    return;
  }
  const std::vector<Range> ranges = children_of(context_->layout, i + 1, level(i + 1).kept);
  for (size_t next = 0; next < ranges.size() + kPrefetchedRanges; ++next) {
    if (next < ranges.size()) {
      prefetch_keys(i, ranges[next]);
    }
    if (next >= kPrefetchedRanges) {
      score_range(i, ranges[next - kPrefetchedRanges]);
      n_scored_ += ranges[next - kPrefetchedRanges].size();
    }
  }
}

void ChunkSelection::prefetch_keys(int i, Range ordinals) const {
  if (by_order()) {
    return;
  }
  constexpr int64_t kCacheLine = 64;
  const int64_t bytes =
      vector_bytes(context_->cache.shape().type, context_->cache.shape().head_dim);
  const std::byte* keys = bank(i).keys(query_.kv_head);
  for (int64_t at = ordinals.begin * bytes; at < ordinals.end * bytes; at += kCacheLine) {
    __builtin_prefetch(keys + at);
  }
}

void ChunkSelection::keep_by_mass() {
  GroupScores scores;
  std::vector<int64_t> top_k;
  for (const Level& of : levels_) {
    scores.emplace_back();
    for (int64_t head = 0; head < query_.group_size; ++head) {
      const float* row = of.scores.data() + head * of.stride;
      scores.back().insert(scores.back().end(), row, row + of.n);
    }
    top_k.push_back(of.top_k);
  }
  const KeptGists kept =
      select_gists(context_->layout, scores, query_.group_size, top_k, context_->options);
  for (size_t i = 0; i < kept.size(); ++i) {
    for (const int64_t gist : kept[i]) {
      set(levels_[i].kept, gist);
    }
  }
}

void ChunkSelection::finish(HeadJob& job) {
  unite(top());
  for (int i = top() - 1; i >= 0; --i) {
    score_children(i);
    if (context_->options.mass) {
      continue;
    }
    for (int64_t chooser = 0; chooser < n_choosers_; ++chooser) {
      choose(i,
             chooser,
             children_of(context_->layout, i + 1, level(i + 1).bits[static_cast<size_t>(chooser)]));
    }
    unite(i);
  }
  if (context_->options.mass) {
    keep_by_mass();
  }
  job.clear();
  add_raw(job);
  if (context_->has_gists) {
    add_gists(job);
  }
}

void ChunkSelection::add_raw(HeadJob& job) const {
  const GistLayout& layout = context_->layout;
  const auto add = [&](Range tokens) {
    job.add_raw(context_->cache, context_->layer, query_.kv_head, tokens);
  };
  const VisibleSet visible = visible_set(layout, context_->rule, query_.index);
  const int64_t sink = context_->rule.sink >= 0 ? context_->rule.sink : kUnfoldingSink;
  const int64_t end = layout.raw_before(query_.index + 1);
  // Sinks reach from the beginning, the own and the previous chunks and the suffix to the query
  // itself.
  const int64_t tail = std::min(visible.raw.rest.empty() ? end : visible.raw.rest.begin,
                                layout.raw_before(std::min(layout.prefix_end(), query_.index + 1)));
  const int64_t head = std::min(
      tail, std::max(visible.raw.sinks.end, layout.raw_before(std::min(sink, query_.index + 1))));
  add({0, head});
  Range open{head, head};
  for_each_set(level(0).kept, [&](int64_t chunk) {
    const Range tokens = layout.raw_tokens(chunk);
    const Range inner{std::max(tokens.begin, head), std::min(tokens.end, tail)};
    if (inner.begin >= inner.end) {
      return;
    }
    if (inner.begin == open.end) {
      open.end = inner.end;
    } else {
      add(open);
      open = inner;
    }
  });
  add(open);
  add({tail, end});
}

void ChunkSelection::score_gist(int i, int64_t ordinal) {
  const KvShape& shape = context_->cache.shape();
  const KeyBank& gists = context_->cache.bank(context_->layer, i);
  const ScoreKernels& kernels = score_kernels(instruction_set());
  std::array<float, 64 * kTileKeys> scores;
  const int64_t bytes = vector_bytes(shape.type, shape.head_dim), group = query_.group_size;
  const bool tiles = gists.order() == KeyOrder::kTiles;
  const int64_t slot = tiles ? ordinal % kTileKeys : 0;
  const std::byte* first = gists.keys(query_.kv_head) + (ordinal - slot) * bytes;
  if (tiles) {
    kernels.score_tiles(
        shape.type, shape.head_dim, query_.q, group, first, slot + 1, scores.data(), kTileKeys);
  } else {
    kernels.score_vectors(
        shape.type, shape.head_dim, query_.q, group, first, bytes, 1, scores.data(), kTileKeys);
  }
  for (int64_t head = 0; head < group; ++head) {
    gist_scores_.push_back(scores[static_cast<size_t>(head * kTileKeys + slot)]);
  }
}

void ChunkSelection::add_gists(HeadJob& job) {
  const KvShape& shape = context_->cache.shape();
  const int64_t bytes = vector_bytes(shape.type, shape.head_dim);
  const bool scanned = context_->options.pivot == Pivot::kGist;
  const int64_t sink = context_->rule.sink >= 0 ? context_->rule.sink : kUnfoldingSink;
  int64_t n_scored = std::min(sink, context_->layout.n_gists());
  for (const Level& of : levels_) {
    n_scored += scanned ? 0 : count_set(of.kept);
  }
  gist_scores_.clear();
  gist_scores_.reserve(static_cast<size_t>(n_scored * query_.group_size));  // pointers into it stay
  const auto add = [&](int i, int64_t gist, bool has_score) {
    const std::byte* value =
        context_->cache.bank(context_->layer, i).values(query_.kv_head) + gist * bytes;
    if (has_score) {
      job.scored.push_back({value, level(i).scores.data() + gist, level(i).stride});
    } else {
      score_gist(i, gist);
      job.scored.push_back(
          {value, gist_scores_.data() + gist_scores_.size() - query_.group_size, 1});
    }
  };
  for (int i = 0; i <= top(); ++i) {
    for_each_set(level(i).kept, [&](int64_t gist) { add(i, gist, scanned); });
  }
  if (query_.generated) {
    return;
  }
  for (int64_t t = 0; t < std::min(sink, query_.index + 1); ++t) {
    const int i = context_->layout.levels()[static_cast<size_t>(t)];
    if (i == kRawLevel) {
      continue;
    }
    if (const int64_t gist = context_->layout.chunk_of(i, t); !is_set(level(i).kept, gist)) {
      add(i, gist, false);
    }
  }
}

KeptGists ChunkSelection::kept() const {
  KeptGists kept;
  for (const Level& of : levels_) {
    kept.emplace_back();
    for_each_set(of.kept, [&](int64_t gist) { kept.back().push_back(gist); });
  }
  return kept;
}

}  // namespace ssa::cpu
