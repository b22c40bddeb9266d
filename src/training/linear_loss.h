// Losses over the vocabulary without a float32 [n_tokens, vocab_size] matrix: logits are made, used
// and dropped for a few hundred tokens at a time, and gradients are computed with them.
#pragma once

#include <torch/torch.h>

namespace ssa {

using torch::Tensor;

/// Sum over rows of -log softmax(hidden . weight^T)[target]; differentiable in hidden and weight.
/// float32, float64 for float64: []. weight may be wider than hidden, and is then rounded to it for
/// the products.
Tensor linear_cross_entropy(const Tensor& hidden,    // [n_rows, hidden_size]
                            const Tensor& weight,    // [vocab_size, hidden_size]
                            const Tensor& targets);  // [n_rows] int64, in [0, vocab_size)

/// Sum over rows of KL(teacher || student), both softmax(hidden . weight^T); differentiable in the
/// student's alone.
Tensor linear_distillation(const Tensor& hidden,           // [n_rows, hidden_size]
                           const Tensor& weight,           // [vocab_size, hidden_size]
                           const Tensor& teacher_hidden,   // as hidden
                           const Tensor& teacher_weight);  // as weight

}  // namespace ssa
