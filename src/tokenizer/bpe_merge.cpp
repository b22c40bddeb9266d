#include "tokenizer/bpe_merge.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "base/error.h"

namespace ssa {
namespace {

// Below this a scan over all merges beats the heap: words of text have some five symbols.
constexpr size_t kMaxScanned = 48;

bool by_rank(const Merge& a, const Merge& b) {
  return a.rank < b.rank;
}

void merge_by_scanning(const PairTable& pairs,
                       std::vector<int32_t>& symbols,
                       std::vector<Merge>& merges) {
  merges.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    merges.push_back(pairs.find(symbols[i], symbols[i + 1]));
  }
  while (!merges.empty()) {
    const auto best = std::min_element(merges.begin(), merges.end(), by_rank);
    if (best->rank == kNoMerge.rank) {
      return;
    }
    const auto i = static_cast<size_t>(best - merges.begin());
    symbols[i] = best->id;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(i) + 1);
    merges.erase(best);
    if (i > 0) {
      merges[i - 1] = pairs.find(symbols[i - 1], symbols[i]);
    }
    if (i < merges.size()) {
      merges[i] = pairs.find(symbols[i], symbols[i + 1]);
    }
  }
}

/// The symbols as a linked list, and a heap of (rank, position). Entries are not taken out of the
/// heap when their pair changes: they are recognised by a rank that no longer is the node's.
class HeapMerger {
 public:
  HeapMerger(const PairTable& pairs, MergeScratch& scratch)
      : pairs_(pairs), nodes_(scratch.nodes), heap_(scratch.heap) {}

  void run(std::vector<int32_t>& symbols) {
    link(symbols);
    while (!heap_.empty()) {
      const auto rank = static_cast<uint32_t>(heap_.front() >> 32);
      const auto position = static_cast<int32_t>(heap_.front() & UINT32_MAX);
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      heap_.pop_back();
      if (node(position).merge.rank == rank) {
        merge_at(position);
      }
    }
    symbols.clear();
    for (int32_t i = 0; i >= 0; i = node(i).next) {
      symbols.push_back(node(i).symbol);
    }
  }

 private:
  using Node = MergeScratch::Node;
  Node& node(int32_t position) { return nodes_[static_cast<size_t>(position)]; }

  void link(const std::vector<int32_t>& symbols) {
    const auto n = static_cast<int32_t>(symbols.size());
    nodes_.resize(symbols.size());
    heap_.clear();
    for (int32_t i = 0; i < n; ++i) {
      node(i) = {symbols[static_cast<size_t>(i)], i - 1, i + 1 < n ? i + 1 : -1, kNoMerge};
    }
    for (int32_t i = 0; i < n; ++i) {
      find_merge(i);
    }
  }

  void find_merge(int32_t position) {
    Node& left = node(position);
    left.merge = left.next < 0 ? kNoMerge : pairs_.find(left.symbol, node(left.next).symbol);
    if (left.merge.rank != kNoMerge.rank) {
      heap_.push_back(uint64_t{left.merge.rank} << 32 | static_cast<uint32_t>(position));
      std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    }
  }

  void merge_at(int32_t position) {
    Node& left = node(position);
    Node& right = node(left.next);
    left.symbol = left.merge.id;
    left.next = right.next;
    right.merge = kNoMerge;
    if (left.next >= 0) {
      node(left.next).previous = position;
    }
    if (left.previous >= 0) {
      find_merge(left.previous);
    }
    find_merge(position);
  }

  const PairTable& pairs_;
  std::vector<Node>& nodes_;
  std::vector<uint64_t>& heap_;
};

}  // namespace

void merge_symbols(const PairTable& pairs, std::vector<int32_t>& symbols, MergeScratch& scratch) {
  if (symbols.size() <= kMaxScanned) {
    merge_by_scanning(pairs, symbols, scratch.merges);
    return;
  }
  check(symbols.size() <= std::numeric_limits<int32_t>::max(),
        "word of ",
        symbols.size(),
        " bytes: at most 2^31 - 1 can be encoded");
  HeapMerger(pairs, scratch).run(symbols);
}

}  // namespace ssa
