// How many blocks of keys a query attends under block-sparse attention, and by which rule.
#pragma once

#include <cstdint>

namespace ssa {

/// Source: arXiv 2511.20102; docs/sparse_sparse.md says where the two part.
enum class BlockRule {
  kExact,      // the n_blocks best
  kPublished,  // what the authors' kernel does, which their checkpoints were trained with
};

struct BlockOptions {
  int64_t block_size = 16;  // tokens; > 0
  int64_t n_blocks = 16;    // attended a query and key/value head, its own among them; > 0
  BlockRule rule = BlockRule::kExact;

  bool operator==(const BlockOptions&) const = default;
};

/// Throws Error naming the value: sizes and counts below 1, or more blocks than the published rule
/// allows (n_blocks rounded up to a power of two must not exceed block_size).
void check_block_options(const BlockOptions& options);

}  // namespace ssa
