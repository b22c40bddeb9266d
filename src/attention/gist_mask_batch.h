// Gist-mask attention of a batch of different layouts at once: word-aware rows each have their own,
// and attending them one by one costs more in launches than in work.
//
//   window   all rows        a run of tokens up to the row itself, and the sinks
//   slots    prefix rows     the bank: gists of the highest level in front of the window, as in
//                            gist_mask_plan.h
//   suffix   suffix rows     all gists in front of the window that the mask shows, lower ones too
//   section  prefix rows     several levels: the few lower gists in front of the window, those of
//                            the open groups. Rows of a chunk see the same ones
//
// Every pair that the mask shows is in exactly one part.
#pragma once

#include <memory>
#include <span>

#include "attention/gist_mask_plan.h"

namespace ssa {

/// Lists of rows of which each sees a list of keys, side by side under the longest list's width.
/// Undefined tensors if there are none.
struct RowsWithKeys {
  Tensor rows;      // [n_lists, most rows] rows of the batch; padding: 0
  Tensor row_pads;  // the same, bool: is padding
  Tensor places;    // [all rows] where they stand in `rows`, flat
  Tensor keys;      // [n_lists, most keys] rows of the batch; padding: 0
  Tensor key_pads;  // the same, bool

  bool defined() const { return rows.defined(); }
};

/// What the layouts of a batch share out among dense problems over gists, each padded to its
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

  RowsWithKeys suffix;   // a list a sequence
  RowsWithKeys section;  // a list a chunk, or a higher gist

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

/// Any number of levels, differing between layouts. Null if the sinks are not a fixed number of
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
