// The gists that score best, for many queries at once.
#pragma once

#include <torch/types.h>

#include <cstdint>

namespace ssa {

using torch::Tensor;

/// As keep_best() in select.cpp: ties go to the lower ordinal, NaN is never kept, and places that
/// too few competitors leave over go to nobody. scores, competing (bool): [n_heads, n_queries,
/// choosers, n]; top_k: how many a chooser keeps, >= 1, as broadcasts over these, with a last
/// dimension of 1; largest_top_k: of all of them. Returns bool, as competing.
Tensor best_gists(const Tensor& scores,
                  const Tensor& competing,
                  const Tensor& top_k,
                  int64_t largest_top_k);

}  // namespace ssa
