// Keys that queries are ranked by, contiguous and ready to scan: one level of one layer.
#pragma once

#include <vector>

#include "kv/growing_buffer.h"
#include "kv/kv_format.h"

namespace ssa {

/// How a bank keeps its keys.
enum class KeyOrder : uint8_t {
  kTiles,    // read whole: the highest level
  kVectors,  // read in short runs, the children of what was kept above: the levels below
};

/// One row a gist (or whatever stands for a chunk) and key/value head; values beside the keys where
/// there are any. Not thread-safe; const methods are.
class KeyBank {
 public:
  KeyBank(KvType type, int64_t n_kv_heads, int64_t head_dim, KeyOrder order, bool has_values);

  /// Room for one more row, which then has to be stored for every head.
  void append_row() { reserve(++n_rows_); }
  /// The last row of one head. `value` is not looked at where there are none.
  void store(int64_t kv_head, const std::byte* key, const std::byte* value);
  /// Room for `n` rows of unknown content, or the first `n` of those there are.
  void resize(int64_t n);

  int64_t n_rows() const { return n_rows_; }
  KeyOrder order() const { return order_; }
  /// Tiles, or vectors.
  const std::byte* keys(int64_t kv_head) const {
    return keys_[static_cast<size_t>(kv_head)].data();
  }
  std::byte* keys(int64_t kv_head) { return keys_[static_cast<size_t>(kv_head)].data(); }
  /// Vectors.
  const std::byte* values(int64_t kv_head) const {
    return values_[static_cast<size_t>(kv_head)].data();
  }
  std::byte* values(int64_t kv_head) { return values_[static_cast<size_t>(kv_head)].data(); }

  /// Bytes of one head's keys or values; the last tile counts whole.
  int64_t key_bytes() const { return key_bytes(n_rows_); }
  int64_t value_bytes() const {
    return values_.empty() ? 0 : n_rows_ * vector_bytes(type_, head_dim_);
  }
  /// Bytes that the rows take, over all heads.
  int64_t stored_bytes() const;
  /// Bytes beyond that: the unfilled part of the last tile, and of memory pages.
  int64_t spare_bytes() const;

 private:
  int64_t key_bytes(int64_t n) const;
  void reserve(int64_t n);

  KvType type_;
  int64_t head_dim_;
  KeyOrder order_;
  int64_t n_rows_ = 0;
  std::vector<GrowingBuffer> keys_, values_;  // [n_kv_heads]; values_ may be empty
};

}  // namespace ssa
