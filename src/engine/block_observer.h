// Those who look on while queries choose blocks: --show, --trace, tests.
#pragma once

#include <cstdint>
#include <span>

namespace ssa {

class BlockObserver {
 public:
  virtual ~BlockObserver() = default;
  /// The query at `index` of the sequence, one key/value head: the blocks it read, ascending, its
  /// own the last, and how many keys it attended.
  virtual void on_blocks(int64_t layer,
                         int64_t index,
                         int64_t kv_head,
                         std::span<const int64_t> blocks,
                         int64_t n_attended) = 0;
};

}  // namespace ssa
