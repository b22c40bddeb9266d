// The gist mask of one layout, cut into dense problems. Computed once a step from the layout, used
// by every layer.
//
//   prefix rows   near   blocks of rows against a window of keys: the own and the previous chunks,
//   the sinks, and with
//                        several levels the lower gists that the mask shows
//                 far    the bank: top-level gists whose chunk has left the window. The rows of a
//                 chunk are extra query
//                        heads of one sequence of chunk numbers, so that this is plain causal
//                        attention over slots: slot s sees bank keys [0, s]
//   suffix rows   rect   the keys of the prefix that every suffix row sees, the bank among them
//                 own    the suffix itself, causal
//
// Every pair that the mask shows is in exactly one part. All parts are linear in the sequence's
// length but far, which is the mask's own triangle, length / ratio wide; no part holds a mask of
// more than rows x window.
//
// Chunks of uneven length (word-aware) leave slots with unused rows. Slots are as high as most
// chunks; the rows of the few that are higher attend apart, under a mask ("overflow").
//
// Source: arXiv 2604.20920, section 3; docs/architecture.md.
#pragma once

#include <torch/custom_class.h>
#include <torch/types.h>

#include "gist/gist_layout.h"
#include "gist/mask.h"

namespace ssa {

using torch::Tensor;

/// Index tensors are int64, on one device. Immutable once built; may be shared by threads.
struct GistMaskPlan : torch::CustomClassHolder {
  int64_t n_tokens = 0;
  int64_t prefix_end = 0;  // rows [0, prefix_end) are prefix

  // near; no blocks if there is no prefix. At least one row of the last block is padding, and
  // n_near_rows > prefix_end.
  int64_t n_blocks = 0, block_rows = 0, window = 0, n_sinks = 0;
  Tensor near_keys;  // [n_blocks * window] token indices; columns [0, n_sinks) of a block are the
                     // sinks
  Tensor near_visible;  // [n_blocks, block_rows, window] bool
  Tensor near_copies;   // [n_copies, prefix_end]: where token t stands in near_keys (n_blocks *
                        // window: nowhere)

  // far; no slots if nothing is far. Rows [far_begin, prefix_end) see the bank.
  int64_t n_slots = 0, slot_rows = 0, far_begin = 0;
  Tensor far_keys;     // [n_slots] token indices
  Tensor slot_of_row;  // [prefix_end - far_begin] where each row stands in slots; undefined if
                       // slots are full
  Tensor
      row_in_slot;  // [n_slots * slot_rows] rows, padding = prefix_end; undefined if slots are full
  Tensor overflow_rows;     // [n_overflow] rows - far_begin; undefined if there are none
  Tensor overflow_visible;  // [n_overflow, n_slots] bool

  Tensor rect_keys;  // [n_rect] token indices that all suffix rows see

  // With one level all that is near is a run of tokens and the sinks: row t sees [window_begin[t],
  // t], suffix rows too, and the bank behind the sinks up to there. What kernels of our own take.
  Tensor window_begin;  // [n_tokens] int32; undefined with several levels
  Tensor
      suffix_bank_keys;  // [n] token indices of the gists that suffix rows see outside their window

  int64_t n_near_rows() const { return n_blocks * block_rows; }
  int64_t n_suffix() const { return n_tokens - prefix_end; }
};

using GistMaskPlanPtr = c10::intrusive_ptr<GistMaskPlan>;  // autograd keeps no pointer to const

/// A layout without gists gives plain causal attention (all rows are suffix). O(tokens * window).
GistMaskPlanPtr plan_gist_mask(const GistLayout& layout, const MaskRule& rule);

/// The same on another device.
GistMaskPlanPtr to_device(const GistMaskPlan& plan, torch::Device device);

}  // namespace ssa
