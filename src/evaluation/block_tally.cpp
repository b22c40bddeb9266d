#include "evaluation/block_tally.h"

#include <algorithm>

#include "selection/block_selection.h"

namespace ssa {

void BlockTally::start(Range rows, std::vector<int64_t> evidence) {
  std::fill(layers_.begin(), layers_.end(), Layer());
  rows_ = rows;
  evidence_ = std::move(evidence);
  counts_ = true;
}

void BlockTally::on_blocks(int64_t layer,
                           int64_t index,
                           int64_t /*kv_head*/,
                           std::span<const int64_t> blocks,
                           int64_t n_attended) {
  if (!counts_) {
    return;
  }
  Layer& sums = layers_[static_cast<size_t>(layer)];
  sums.attended += static_cast<double>(n_attended);
  sums.scanned += static_cast<double>(ranked_blocks(index, block_size_));
  ++sums.n_queries;
  if (!evidence_.empty() && rows_.contains(index)) {
    const auto found = std::count_if(evidence_.begin(), evidence_.end(), [&](int64_t key) {
      return std::binary_search(blocks.begin(), blocks.end(), key / block_size_);
    });
    sums.recalled += static_cast<double>(found) / static_cast<double>(evidence_.size());
    ++sums.n_recalls;
  }
}

std::vector<double> BlockTally::attended() const {
  std::vector<double> means;
  for (const Layer& layer : layers_) {
    means.push_back(layer.attended / static_cast<double>(std::max<int64_t>(layer.n_queries, 1)));
  }
  return means;
}

std::vector<double> BlockTally::evidence_recall() const {
  std::vector<double> means;
  for (const Layer& layer : layers_) {
    if (layer.n_recalls > 0) {
      means.push_back(layer.recalled / static_cast<double>(layer.n_recalls));
    }
  }
  return means;
}

double BlockTally::n_scanned() const {
  double scanned = 0, n_queries = 0;
  for (const Layer& layer : layers_) {
    scanned += layer.scanned;
    n_queries += static_cast<double>(layer.n_queries);
  }
  return n_queries > 0 ? scanned / n_queries : 0.0;
}

}  // namespace ssa
