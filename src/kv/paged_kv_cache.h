// Keys and values of one sequence: raw tokens in pages, gists in banks, each kept once.
//
//   page   [n_kv_heads][kPageTokens] rows of one layer; raw token r of the sequence is row r %
//   kPageTokens of page
//          r / kPageTokens. A chunk of one head is thus one run of bytes, or two where a page ends
//          inside it.
//   bank   one a layer and level: the highest level's keys in tiles, the others' as vectors
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "gist/gist_layout.h"
#include "kv/key_bank.h"
#include "kv/kv_format.h"
#include "kv/page_pool.h"

namespace ssa {

struct KvShape {
  KvType type = KvType::kBF16;
  int64_t n_layers = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  int n_levels = 0;  // of gists in the sequence; 0: all tokens are raw
};

/// Bytes of a sequence's keys and values.
struct KvBytes {
  int64_t raw = 0;    // of raw tokens
  int64_t gist = 0;   // of gists
  int64_t extra = 0;  // of what else stands for chunks: means, minima and maxima
  int64_t other = 0;  // room taken and not filled, tables

  int64_t total() const { return raw + gist + extra + other; }
};

/// New keys and values of some tokens, [n_tokens, n_kv_heads, head_dim] each, heads contiguous.
struct KvSource {
  const void* keys = nullptr;
  const void* values = nullptr;
  bool is_bf16 = false;                      // else float32
  int64_t key_stride = 0, value_stride = 0;  // from token to token, in elements
};

/// Consecutive raw rows of one head, within a page.
struct RowRun {
  const std::byte* rows = nullptr;
  int64_t n_tokens = 0;
};

/// Not thread-safe; const methods are. Several sequences of any length may share a pool.
class PagedKvCache {
 public:
  static constexpr int64_t kPageTokens = 64;

  /// The pool's pages must be of page_bytes(shape).
  PagedKvCache(const KvShape& shape, std::shared_ptr<PagePool> pool);
  PagedKvCache(PagedKvCache&&) = default;
  PagedKvCache& operator=(PagedKvCache&&) = delete;
  ~PagedKvCache();

  static int64_t page_bytes(const KvShape& shape);
  /// Bytes that so many raw tokens and gists take.
  static uint64_t bytes(const KvShape& shape, int64_t n_tokens);

  /// Appends tokens to one layer. levels: of each token (kRawLevel, or the gist's level); its size
  /// is their number.
  void append(int64_t layer, const KvSource& source, std::span<const int8_t> levels);
  /// Keeps the first n_raw raw tokens and n_gists[level] gists, in every layer.
  void truncate(int64_t n_raw, std::span<const int64_t> n_gists);  // [n_levels]
  /// Room for rows that are then written through row(), and banks' data(): a cache read from a
  /// file.
  void resize(int64_t n_raw, std::span<const int64_t> n_gists);

  const KvShape& shape() const { return shape_; }
  int64_t n_raw(int64_t layer) const { return layers_[static_cast<size_t>(layer)].n_raw; }
  const KeyBank& bank(int64_t layer, int level) const {
    return layers_[static_cast<size_t>(layer)].banks[static_cast<size_t>(level)];
  }
  KeyBank& bank(int64_t layer, int level) {
    return layers_[static_cast<size_t>(layer)].banks[static_cast<size_t>(level)];
  }

  /// The row of one raw token.
  const std::byte* row(int64_t layer, int64_t kv_head, int64_t token) const;
  std::byte* row(int64_t layer, int64_t kv_head, int64_t token) {
    return const_cast<std::byte*>(std::as_const(*this).row(layer, kv_head, token));
  }
  /// Calls fn(RowRun) for the raw tokens [begin, end), in order, a run a page.
  template <class Fn>
  void for_each_run(int64_t layer, int64_t kv_head, Range tokens, const Fn& fn) const {
    for (int64_t begin = tokens.begin; begin < tokens.end;) {
      const int64_t end = std::min(tokens.end, (begin / kPageTokens + 1) * kPageTokens);
      fn(RowRun{row(layer, kv_head, begin), end - begin});
      begin = end;
    }
  }

  KvBytes bytes() const;

 private:
  struct Layer {
    std::vector<std::byte*> pages;
    int64_t n_raw = 0;
    std::vector<KeyBank> banks;  // [n_levels]
  };
  void reserve_raw(Layer& layer, int64_t n_raw);

  KvShape shape_;
  std::shared_ptr<PagePool> pool_;
  std::vector<Layer> layers_;
};

}  // namespace ssa
