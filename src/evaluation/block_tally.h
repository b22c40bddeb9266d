// What block-sparse attention read: keys, means, and how much of the evidence.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/block_observer.h"
#include "gist/gist_layout.h"

namespace ssa {

/// Sums over the queries it is told of while it counts. Not thread-safe.
class BlockTally : public BlockObserver {
 public:
  BlockTally(int64_t n_layers, int64_t block_size)
      : block_size_(block_size), layers_(static_cast<size_t>(n_layers)) {}

  /// From now on counts every query; of those at `rows` (indices of the sequence) the share of the
  /// evidence, too. `evidence`: indices of keys, none of them behind a query of `rows`.
  void start(Range rows, std::vector<int64_t> evidence);
  void stop() { counts_ = false; }

  void on_blocks(int64_t layer,
                 int64_t index,
                 int64_t kv_head,
                 std::span<const int64_t> blocks,
                 int64_t n_attended) override;

  // Means over queries and key/value heads, [n_layers] each.
  std::vector<double> attended() const;
  /// Empty without evidence.
  std::vector<double> evidence_recall() const;
  /// Means that a query is scored against, over all layers.
  double n_scanned() const;

 private:
  struct Layer {
    double attended = 0, scanned = 0, recalled = 0;  // sums
    int64_t n_queries = 0, n_recalls = 0;            // a key/value head each
  };

  int64_t block_size_;
  std::vector<Layer> layers_;
  std::vector<int64_t> evidence_;
  Range rows_;
  bool counts_ = false;
};

}  // namespace ssa
