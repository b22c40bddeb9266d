// Losses over the vocabulary without a float32 [n_tokens, vocab_size] matrix: logits are made, used
// and dropped for a few hundred tokens at a time, and gradients are computed with them.
#pragma once

#include <torch/types.h>

#include <utility>

namespace ssa {

using torch::Tensor;

/// The output layer: rows of the vocabulary, and behind them those of an adapter's gists. Either
/// may be wider than hidden states, and is then rounded to them for the products.
struct OutputRows {
  OutputRows(Tensor own, Tensor behind = {}) : weight(std::move(own)), tail(std::move(behind)) {}

  Tensor weight;  // [vocab_size, hidden_size]
  Tensor tail;    // [n_gists, hidden_size]; undefined: none

  int64_t n_rows() const { return weight.size(0) + (tail.defined() ? tail.size(0) : 0); }
};

/// Sum over rows of -log softmax(hidden . output^T)[target]; differentiable in hidden and in those
/// of the output's rows that ask for gradients. float32, float64 for float64: [].
Tensor linear_cross_entropy(const Tensor& hidden,  // [n_rows, hidden_size]
                            const OutputRows& output,
                            const Tensor& targets);  // [n_rows] int64, in [0, output.n_rows())

/// Sum over rows of KL(teacher || student), both softmax(hidden . output^T); differentiable in the
/// student's alone. What the teacher's vocabulary lacks at its end has no probability there.
Tensor linear_distillation(const Tensor& hidden,  // [n_rows, hidden_size]
                           const OutputRows& output,
                           const Tensor& teacher_hidden,  // as hidden
                           const OutputRows& teacher_output);

}  // namespace ssa
