// Gist-mask attention of a batch of different layouts at once: word-aware rows each have their own,
// and attending them one by one costs more in launches than in work. One level of gists.
#pragma once

#include <memory>
#include <span>

#include "attention/gist_mask_plan.h"

namespace ssa {

/// What the layouts of a batch share out among two dense problems over the bank, each padded to its
/// longest sequence, and one over windows (attention/window_part.h). Index tensors are int64, on
/// one device. Immutable once built, but for `by_head`.
struct GistMaskBatch : torch::CustomClassHolder {
  int64_t n_tokens = 0;  // of all sequences
  int64_t n_sinks = 0;

  Tensor window_begin;  // [n_tokens] int32, in the batch
  Tensor offsets;       // [n_sequences + 1] int32

  // Prefix rows against the bank: slots of a chunk's rows, as in GistMaskPlan. No slots: undefined.
  Tensor slot_rows;     // [n_far, n_slots, slot_rows] rows of the batch; padding: 0
  Tensor slot_pads;     // the same, bool: is padding
  Tensor slot_keys;     // [n_far, n_slots] rows of the batch; padding: 0
  Tensor place_of_row;  // [n_tokens] where each row stands in slot_rows; rows that see no bank: 0
  Tensor is_far;        // [n_tokens] bool: prefix rows that see the bank

  // Suffix rows against the bank. No such rows: undefined.
  Tensor suffix_rows;    // [n_suffixes, longest] rows of the batch; padding: 0
  Tensor suffix_pads;    // the same, bool
  Tensor suffix_places;  // [all suffix rows] where they stand in suffix_rows, flat
  Tensor suffix_keys;    // [n_suffixes, most keys] rows of the batch; padding: 0
  Tensor key_pads;       // the same, bool

  /// The indices above spelled out for a number of key/value heads: made by the first layer that
  /// attends, used by all. Not for several threads at once.
  struct ByHead;
  mutable std::shared_ptr<const ByHead> by_head;
};

using GistMaskBatchPtr = c10::intrusive_ptr<GistMaskBatch>;

/// One layout and how many sequences have it, in the order of the batch.
struct LaidSequences {
  const GistLayout* layout = nullptr;
  int64_t n_sequences = 1;
};

/// Null if the layouts do not go together: several levels, sinks that are not a fixed number of
/// tokens.
GistMaskBatchPtr plan_gist_mask_batch(std::span<const LaidSequences> sequences,
                                      const MaskRule& rule);

GistMaskBatchPtr to_device(const GistMaskBatch& batch, torch::Device device);

/// As gist_mask_attention.h's, for all sequences of the batch. Windows go through our CUDA kernels
/// where they serve, else through plain products that hold [n_tokens, n_tokens] scores: for tests.
Tensor gist_mask_attention(const Tensor& q,  // [batch.n_tokens, n_heads, head_dim]
                           const Tensor& k,  // [.., n_kv_heads, head_dim]
                           const Tensor& v,
                           const GistMaskBatchPtr& batch,
                           double scale);

}  // namespace ssa
