// Batched attention under a mask that is spelled out, with gradients: for training, where no
// structure allows a better way. attention.h has the one for a single sequence.
#pragma once

#include <torch/types.h>

namespace ssa {

using torch::Tensor;

/// q: [n_batch, n_heads, n_rows, head_dim]; k, v: [n_batch, n_heads or 1, n_keys, head_dim];
/// visible: bool, broadcasts to [n_batch, n_heads, n_rows, n_keys]; every row must see a key.
/// Returns as q. Any float dtype and device, f16 aside. Holds a bias of the mask's size.
Tensor visible_attention(
    const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& visible, double scale);

}  // namespace ssa
