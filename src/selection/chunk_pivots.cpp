#include "selection/chunk_pivots.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

namespace ssa {
namespace {

using Vector = std::array<float, 512>;
using StoredVector = std::array<std::byte, 512 * sizeof(float) + 2>;

struct Extremes {
  Vector sum, high, low;
};

/// Sum, maximum and minimum by channel of the keys of raw tokens.
void summarise(
    const PagedKvCache& cache, int64_t layer, int64_t kv_head, Range tokens, Extremes& of) {
  const KvShape& shape = cache.shape();
  of.sum.fill(0);
  of.high.fill(-std::numeric_limits<float>::infinity());
  of.low.fill(std::numeric_limits<float>::infinity());
  Vector key;
  cache.for_each_run(layer, kv_head, tokens, [&](const RowRun& run) {
    for (int64_t t = 0; t < run.n_tokens; ++t) {
      load_vector(shape.type,
                  run.rows + t * row_bytes(shape.type, shape.head_dim),
                  shape.head_dim,
                  key.data());
      for (size_t i = 0; i < static_cast<size_t>(shape.head_dim); ++i) {
        of.sum[i] += key[i];
        of.high[i] = std::max(of.high[i], key[i]);
        of.low[i] = std::min(of.low[i], key[i]);
      }
    }
  });
}

/// Steele et al. 2014.
uint64_t splitmix64(uint64_t i) {
  uint64_t x = (i + 1) * 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

}  // namespace

ChunkPivots::ChunkPivots(Pivot pivot, const KvShape& shape, int n_levels)
    : pivot_(pivot), shape_(shape) {
  for (int level = 0; level < n_levels; ++level) {
    const KeyOrder order = level + 1 == n_levels ? KeyOrder::kTiles : KeyOrder::kVectors;
    levels_.push_back({KeyBank(shape.type, shape.n_kv_heads, shape.head_dim, order, false),
                       KeyBank(shape.type,
                               pivot == Pivot::kQuest ? shape.n_kv_heads : 0,
                               shape.head_dim,
                               order,
                               false)});
  }
}

void ChunkPivots::update(const GistLayout& layout, const PagedKvCache& cache, int64_t layer) {
  Extremes of;
  StoredVector stored;
  const auto store = [&](KeyBank& bank, int64_t kv_head, const Vector& values) {
    store_vector(shape_.type, values.data(), shape_.head_dim, stored.data());
    bank.store(kv_head, stored.data(), nullptr);
  };
  for (int level = 0; level < layout.n_levels(); ++level) {
    auto& [keys, low] = levels_[static_cast<size_t>(level)];
    const int64_t n = layout.n_gists(level);
    keys.resize(std::min(keys.n_rows(), n));
    low.resize(keys.n_rows());
    for (int64_t ordinal = keys.n_rows(); ordinal < n; ++ordinal) {
      const Range tokens = raw_tokens_below(layout, level, ordinal);
      keys.append_row();
      low.append_row();
      for (int64_t head = 0; head < shape_.n_kv_heads; ++head) {
        summarise(cache, layer, head, tokens, of);
        if (pivot_ == Pivot::kQuest) {
          store(keys, head, of.high);
          store(low, head, of.low);
          continue;
        }
        for (float& value : of.sum) {
          value /= static_cast<float>(tokens.size());
        }
        store(keys, head, of.sum);
      }
    }
  }
}

void ChunkPivots::truncate(const GistLayout& layout, int64_t n_raw) {
  for (size_t level = 0; level < levels_.size(); ++level) {
    const int i = static_cast<int>(level);
    int64_t n = std::min(levels_[level].keys.n_rows(), layout.n_gists(i));
    while (n > 0 && raw_tokens_below(layout, i, n - 1).end > n_raw) {
      --n;
    }
    levels_[level].keys.resize(n);
    levels_[level].low.resize(n);
  }
}

int64_t ChunkPivots::bytes() const {
  int64_t bytes = 0;
  for (const Level& level : levels_) {
    bytes += level.keys.stored_bytes() + level.low.stored_bytes();
  }
  return bytes;
}

std::vector<float> order_scores(Pivot pivot, int64_t n) {
  std::vector<float> scores(static_cast<size_t>(n));
  if (pivot == Pivot::kRecent) {
    std::iota(scores.begin(), scores.end(), 0.0F);
    return scores;
  }
  std::vector<uint64_t> order(scores.size());
  std::iota(order.begin(), order.end(), uint64_t{0});
  std::sort(order.begin(), order.end(), [](uint64_t a, uint64_t b) {
    return splitmix64(a) < splitmix64(b);
  });
  for (size_t place = 0; place < order.size(); ++place) {
    scores[order[place]] = static_cast<float>(place);
  }
  return scores;
}

Range raw_tokens_below(const GistLayout& layout, int level, int64_t ordinal) {
  Range range{ordinal, ordinal + 1};
  for (int i = level; i > 0; --i) {
    range = {layout.children(i, range.begin).begin, layout.children(i, range.end - 1).end};
  }
  return {layout.raw_tokens(range.begin).begin, layout.raw_tokens(range.end - 1).end};
}

}  // namespace ssa
