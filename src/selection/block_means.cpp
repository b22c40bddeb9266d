#include "selection/block_means.h"

#include <algorithm>
#include <array>

namespace ssa {
namespace {

using Vector = std::array<float, 512>;
using StoredVector = std::array<std::byte, 512 * sizeof(float) + 2>;

/// The mean of one head's keys of some raw tokens.
void average_keys(const PagedKvCache& cache,
                  int64_t layer,
                  int64_t kv_head,
                  Range tokens,
                  std::span<float> mean) {
  const KvShape& shape = cache.shape();
  Vector key;
  std::fill(mean.begin(), mean.end(), 0.0F);
  cache.for_each_run(layer, kv_head, tokens, [&](const RowRun& run) {
    const int64_t step = row_bytes(shape.type, shape.head_dim);
    for (int64_t t = 0; t < run.n_tokens; ++t) {
      load_vector(shape.type, run.rows + t * step, shape.head_dim, key.data());
      for (size_t i = 0; i < mean.size(); ++i) {
        mean[i] += key[i];
      }
    }
  });
  for (float& value : mean) {
    value /= static_cast<float>(tokens.size());
  }
}

}  // namespace

BlockMeans::BlockMeans(const KvShape& shape, int64_t block_size)
    : shape_(shape),
      block_size_(block_size),
      keys_(shape.type, shape.n_kv_heads, shape.head_dim, KeyOrder::kTiles, /*has_values=*/false) {}

void BlockMeans::update(const PagedKvCache& cache, int64_t layer) {
  Vector buffer;
  StoredVector stored;
  const std::span<float> mean(buffer.data(), static_cast<size_t>(shape_.head_dim));
  const int64_t n_complete = cache.n_raw(layer) / block_size_;
  for (int64_t block = keys_.n_rows(); block < n_complete; ++block) {
    keys_.append_row();
    for (int64_t head = 0; head < shape_.n_kv_heads; ++head) {
      average_keys(cache, layer, head, {block * block_size_, (block + 1) * block_size_}, mean);
      store_vector(shape_.type, mean.data(), shape_.head_dim, stored.data());
      keys_.store(head, stored.data(), nullptr);
    }
  }
}

void BlockMeans::truncate(int64_t n_raw) {
  keys_.resize(std::min(keys_.n_rows(), n_raw / block_size_));
}

}  // namespace ssa
