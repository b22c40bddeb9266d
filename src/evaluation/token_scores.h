// What a model's hidden states say about tokens.
#pragma once

#include <torch/types.h>

#include <span>
#include <vector>

#include "models/causal_lm.h"

namespace ssa {

/// Values of a tensor on any device: one copy from there.
std::vector<double> to_numbers(const Tensor& values);  // float64
std::vector<int64_t> to_ids(const Tensor& values);     // int64

/// Likelihood of tokens, and what would have been likelier.
struct TokenScores {
  std::vector<double> nll;           // [n]
  std::vector<int64_t> predictions;  // [n]: the likeliest token that may be generated
};

/// Logits are taken in float32 or better, a block of rows at a time. Refers to the model.
class TokenScorer {
 public:
  /// `never`: ids that are not generated; those outside the vocabulary do not matter.
  TokenScorer(CausalLM& model, std::span<const int64_t> never)
      : model_(model), never_(never.begin(), never.end()) {}

  /// hidden: [n, hidden_size]; targets repeat as often as its rows need them.
  TokenScores score(const Tensor& hidden, std::span<const int64_t> targets) const;
  /// The likeliest token behind each row that may be generated: [n].
  std::vector<int64_t> likeliest(const Tensor& hidden) const;

 private:
  template <class Fn>
  void for_logits(const Tensor& hidden, const Fn& fn) const;
  Tensor best_of(Tensor logits) const;

  CausalLM& model_;
  std::vector<int64_t> never_;
};

}  // namespace ssa
