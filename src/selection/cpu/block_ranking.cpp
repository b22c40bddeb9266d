#include "selection/cpu/block_ranking.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "selection/cpu/block_shares.h"
#include "selection/cpu/top_k.h"

namespace ssa::cpu {
namespace {

constexpr int64_t kWord = 64;

int64_t places_of(const BlockOptions& options) {
  const auto n = static_cast<uint64_t>(options.n_blocks);
  return options.rule == BlockRule::kPublished ? static_cast<int64_t>(std::bit_ceil(n))
                                               : options.n_blocks;
}

}  // namespace

void BlockRanking::begin(const BlockOptions& options, const BlockQueries& queries) {
  options_ = options;
  queries_ = queries;
  n_parts_ = (n_ranked(queries.n_tokens - 1) + kPartBlocks - 1) / kPartBlocks;
  const auto grow = [](std::vector<float>& buffer, int64_t n) {
    buffer.resize(std::max(buffer.size(), static_cast<size_t>(n)));
  };
  grow(scores_, n_parts_ * queries.n_rows() * kPartStride);
  grow(largest_, n_parts_ * queries.n_rows());
  grow(sums_, n_parts_ * queries.n_rows());
  grow(importance_, n_parts_ * kPartBlocks);
  grow(scratch_, n_parts_ * kPartBlocks + kWord);
  grow(factors_, queries.group_size);
}

int64_t BlockRanking::n_ranked_in(int64_t part, int64_t token) const {
  return std::clamp<int64_t>(n_ranked(token) - part * kPartBlocks, 0, kPartBlocks);
}

int64_t BlockRanking::n_blocks_in(int64_t part) const {
  return n_ranked_in(part, queries_.n_tokens - 1);
}

float* BlockRanking::scores(int64_t part) {
  return row(part, 0);
}

float* BlockRanking::row(int64_t part, int64_t row) {
  return scores_.data() + (part * queries_.n_rows() + row) * kPartStride;
}

void BlockRanking::find_largest(int64_t part) {
  const ShareKernels& kernels = share_kernels(instruction_set());
  for (int64_t i = 0; i < queries_.n_rows(); ++i) {
    largest_[static_cast<size_t>(part * queries_.n_rows() + i)] =
        kernels.largest(row(part, i), n_ranked_in(part, i / queries_.group_size));
  }
}

float BlockRanking::largest_of(int64_t row) const {
  float largest = -std::numeric_limits<float>::infinity();
  for (int64_t part = 0; part < n_parts_; ++part) {
    largest = std::max(largest, largest_[static_cast<size_t>(part * queries_.n_rows() + row)]);
  }
  return largest;
}

void BlockRanking::weigh(int64_t part) {
  const ShareKernels& kernels = share_kernels(instruction_set());
  for (int64_t i = 0; i < queries_.n_rows(); ++i) {
    sums_[static_cast<size_t>(part * queries_.n_rows() + i)] = kernels.weigh(
        row(part, i), n_ranked_in(part, i / queries_.group_size), largest_of(i), queries_.scale);
  }
}

/// The token's importance of each block.
void BlockRanking::add_heads(int64_t token) {
  const int64_t first_row = token * queries_.group_size;
  for (int64_t head = 0; head < queries_.group_size; ++head) {
    float sum = 0;
    for (int64_t part = 0; part < n_parts_; ++part) {
      sum += sums_[static_cast<size_t>(part * queries_.n_rows() + first_row + head)];
    }
    factors_[static_cast<size_t>(head)] = 1.0F / sum;
  }
  const ShareKernels& kernels = share_kernels(instruction_set());
  for (int64_t part = 0; part < n_parts_; ++part) {
    kernels.add_rows(row(part, first_row),
                     kPartStride,
                     queries_.group_size,
                     factors_.data(),
                     n_ranked_in(part, token),
                     importance_.data() + part * kPartBlocks);
  }
}

/// The n best of blocks [begin, end).
void BlockRanking::add_top(int64_t begin, int64_t end, int64_t n, std::vector<int64_t>& blocks) {
  bits_.assign(static_cast<size_t>((end - begin + kWord - 1) / kWord), 0);
  top_k_kernels(instruction_set())
      .top_k(importance_.data() + begin, end - begin, n, bits_.data(), scratch_.data());
  for (size_t word = 0; word < bits_.size(); ++word) {
    for (uint64_t rest = bits_[word]; rest != 0; rest &= rest - 1) {
      blocks.push_back(begin + static_cast<int64_t>(word) * kWord + std::countr_zero(rest));
    }
  }
}

void BlockRanking::choose(int64_t token, std::vector<int64_t>& blocks) {
  add_heads(token);
  blocks.clear();
  const int64_t size = options_.block_size, own = (queries_.first + token) / size;
  const int64_t n_places = places_of(options_);
  if (options_.rule == BlockRule::kPublished && n_places == size && own >= size) {
    const int64_t cut = own / size * size;
    add_top(0, cut, size / 2, blocks);
    add_top(cut, own, size / 2 - 1, blocks);
  } else {
    add_top(0, own, n_places - 1, blocks);
  }
  blocks.push_back(own);
}

}  // namespace ssa::cpu
