// Routing distillation: what makes gists good pivots. The share of a query's attention that each
// chunk would get under full attention teaches the gist's score. Ours, not the paper's.
#pragma once

#include "attention/attention.h"
#include "gist/gist_layout.h"
#include "gist/mask.h"

namespace ssa {

/// For suffix queries of sequences of one layout: the teacher is the softmax of q . k over the raw
/// tokens of the prefix behind the sinks, summed by chunk of a level, without gradient; the student
/// the softmax of q . k over the level's gists, same scale, with a gradient to the gists' keys
/// alone. Returns the sum over sequences of the mean over heads, queries and levels of KL(teacher
/// || student): [] float32 or better. Undefined if there is no suffix or less than two chunks.
Tensor route_loss(const AttentionInput& in,  // of n_sequences * layout.n_tokens() tokens
                  const GistLayout& layout,
                  int64_t n_sequences,
                  const MaskRule& rule,
                  int64_t n_queries);

}  // namespace ssa
