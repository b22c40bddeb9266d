// From scores to blocks, for a few tokens and one key/value head, on the CPU.
// selection/block_selection.h is the reference.
//
//   scores of a part [n_rows][kPartStride]  -> weights in their place -> importance [n_blocks] ->
//   top
//
// A part is 512 blocks. Parts, not threads, are what sums are made of, so that threads may share
// them out as they like.
#pragma once

#include <cstdint>
#include <vector>

#include "selection/block_options.h"

namespace ssa::cpu {

/// Consecutive tokens with all heads of a group: row token * group_size + head.
struct BlockQueries {
  int64_t first = 0;  // index in the sequence of the first
  int64_t n_tokens = 0;
  int64_t group_size = 0;
  float scale = 1.0F;

  int64_t n_rows() const { return n_tokens * group_size; }
};

/// Scratch that is used again and again. The steps run in order, each over all parts before the
/// next; parts may be shared among threads, choose() is one thread's. Of options, those that
/// check_block_options() lets pass.
class BlockRanking {
 public:
  static constexpr int64_t kPartBlocks = 512;
  static constexpr int64_t kPartStride = kPartBlocks + 16;  // rows in different cache sets

  void begin(const BlockOptions& options, const BlockQueries& queries);

  /// Parts of the blocks that the last token ranks.
  int64_t n_parts() const { return n_parts_; }
  int64_t n_blocks_in(int64_t part) const;
  /// To be filled with q . mean, unscaled, of all rows: [n_rows, kPartStride]. Those of blocks that
  /// a token does not rank are not looked at.
  float* scores(int64_t part);
  void find_largest(int64_t part);
  void weigh(int64_t part);
  /// The token's blocks, ascending, its own the last.
  void choose(int64_t token, std::vector<int64_t>& blocks);

  /// Complete blocks that a token ranks.
  int64_t n_ranked(int64_t token) const {
    return (queries_.first + token + 1) / options_.block_size;
  }

 private:
  float* row(int64_t part, int64_t row);
  int64_t n_ranked_in(int64_t part, int64_t token) const;
  float largest_of(int64_t row) const;
  void add_heads(int64_t token);
  void add_top(int64_t begin, int64_t end, int64_t n, std::vector<int64_t>& blocks);

  BlockOptions options_;
  BlockQueries queries_;
  int64_t n_parts_ = 0;
  std::vector<float> scores_;                // [n_parts, n_rows, kPartStride]
  std::vector<float> largest_, sums_;        // [n_parts, n_rows]
  std::vector<float> importance_, factors_;  // [n_blocks rounded up], [group_size]
  std::vector<float> scratch_;
  std::vector<uint64_t> bits_;
};

}  // namespace ssa::cpu
