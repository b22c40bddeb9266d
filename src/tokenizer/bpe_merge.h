// The merging loop of byte-pair encoding.
#pragma once

#include <cstdint>
#include <vector>

#include "tokenizer/bpe_tables.h"

namespace ssa {

/// Memory that merge_symbols keeps between calls; one for each thread.
struct MergeScratch {
  struct Node {
    int32_t symbol;
    int32_t previous, next;  // indices; -1: none
    Merge merge;             // with the next node; kNoMerge also if this node is gone
  };
  std::vector<Merge> merges;
  std::vector<Node> nodes;
  std::vector<uint64_t> heap;
};

/// Joins neighbours in `symbols` until no merge applies: always the lowest rank first, the leftmost
/// of equals. O(n log n) for n symbols. Throws Error above 2^31 symbols.
void merge_symbols(const PairTable& pairs, std::vector<int32_t>& symbols, MergeScratch& scratch);

}  // namespace ssa
