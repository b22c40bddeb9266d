// Gist-mask attention of a batch of different layouts at once: word-aware rows each have their own,
// and attending them one by one costs more in launches than in work.
//
//   window   all but gists   a run of tokens up to the row itself, and the sinks
//            above level 0
//   slots    prefix rows     the bank: gists of the highest level in front of the window, as in
//                            gist_mask_plan.h
//   suffix   suffix rows     all gists in front of the window that the mask shows, lower ones too
//   section  prefix rows     several levels: the few lower gists in front of the window, those of
//                            the open groups. Rows of a chunk see the same ones. Of a gist above
//                            level 0 all that is not bank
//
// Every pair that the mask shows is in exactly one part.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "attention/gist_mask_plan.h"

namespace ssa {

/// Lists of rows of which each sees a list of keys, side by side under the longest list's width.
struct RowsWithKeys {
  Tensor rows;      // [n_lists, most rows] rows of the batch; padding: 0
  Tensor row_pads;  // the same, bool: is padding
  Tensor places;    // [all rows] where they stand in `rows`, flat
  Tensor keys;      // [n_lists, most keys] rows of the batch; padding: 0
  Tensor key_pads;  // the same, bool
};

/// Banks of several sequences, with the rows that see them: those in slot s see keys [0, s].
struct BankSlots {
  Tensor rows;      // [n_banks, n_slots, slot_rows] rows of the batch; padding: 0
  Tensor row_pads;  // the same, bool
  Tensor places;    // [all rows] where they stand in `rows`, flat
  Tensor keys;      // [n_banks, n_slots] rows of the batch; padding: 0
};

/// What the layouts of a batch share out among dense problems over gists and one over windows
/// (attention/window_part.h). Sequences of like shape make one problem, each padded to the longest.
/// Index tensors are int64, on one device. Immutable once built, but for `by_head`.
struct GistMaskBatch : torch::CustomClassHolder {
  int64_t n_tokens = 0;  // of all sequences
  int64_t n_sinks = 0;

  Tensor window_begin;  // [n_tokens] int32, in the batch; non-decreasing
  Tensor no_window;     // [n] rows whose window does not count; undefined: none
  Tensor offsets;       // [n_sequences + 1] int32

  std::vector<BankSlots> slots;
  std::vector<RowsWithKeys> suffixes;  // a list a sequence
  std::vector<RowsWithKeys> sections;  // a list a chunk, or a higher gist

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
