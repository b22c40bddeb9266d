// One sequence on its way through a model: what has been read, and how its tokens attend.
#pragma once

#include <torch/types.h>

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/progress.h"
#include "engine/kv_cache.h"
#include "models/causal_lm.h"

namespace ssa {

/// The way one sequence's queries attend, together with the keys and values it keeps. Subclasses
/// are the modes.
class SequenceAttention : public AttentionContext {
 public:
  /// Tokens of the prompt that one forward pass may hold, starting at index `first`: a mode whose
  /// prompt has parts that attend differently ends a pass where a part ends.
  virtual int64_t pass_limit(int64_t first, int64_t wanted) const {
    (void)first;
    return wanted;
  }
  /// Told before each forward pass which tokens it holds, the first of them at index `first`.
  virtual void begin_pass(int64_t first, std::span<const int64_t> ids) {
    (void)first;
    (void)ids;
  }
  /// Forgets all tokens from index `length` on.
  virtual void rewind(int64_t length) = 0;
};

/// Every token attends all tokens up to itself.
class FullAttention : public SequenceAttention {
 public:
  explicit FullAttention(KvCache cache) : cache_(std::move(cache)) {}
  Tensor attend(int64_t layer, const AttentionInput& in) override;
  void rewind(int64_t length) override { cache_.truncate(length); }

 private:
  KvCache cache_;
};

/// Feeds tokens to a model, keeping count. Refers to the model; owns the attention. Not
/// thread-safe.
class Sequence {
 public:
  Sequence(CausalLM& model, std::unique_ptr<SequenceAttention> attention);

  /// Hidden states of rows [first, first + n) of the sequence: [n, hidden_size].
  using RowsFn = std::function<void(int64_t first, const Tensor& hidden)>;

  /// Runs tokens through the model behind those it has seen, in passes of at most `piece` tokens so
  /// that memory stays bounded; each pass's states go to `rows` (may be empty), progress is counted
  /// in tokens.
  void advance(std::span<const int64_t> ids,
               std::span<const int64_t> positions,  // as long as ids
               int64_t piece,
               const RowsFn& rows,
               const ProgressFn& progress = {});

  /// The same, returning the last token's logits as float32 on the CPU: [vocab_size].
  Tensor last_logits(std::span<const int64_t> ids,
                     std::span<const int64_t> positions,
                     int64_t piece,
                     const ProgressFn& progress = {});

  /// Forgets all tokens from index `length` on, so that the sequence can go on in another way.
  void rewind(int64_t length);

  /// The attention holds the first `length` tokens already, read elsewhere.
  void resume(int64_t length) { length_ = length; }

  int64_t length() const { return length_; }
  SequenceAttention& attention() { return *attention_; }

 private:
  CausalLM& model_;
  std::unique_ptr<SequenceAttention> attention_;
  int64_t length_ = 0;
};

/// positions first, first + 1, ...
std::vector<int64_t> consecutive_positions(int64_t first, int64_t n);

}  // namespace ssa
