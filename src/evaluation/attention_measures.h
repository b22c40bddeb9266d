// How much of full attention a choice of keys keeps, and how far that moves a layer's output.
//
// Of one query and head, with p = softmax over all keys up to it and C the chosen ones:
//
//   sparsity   sum of p over C                          (arXiv 2511.20102: attention sparsity)
//   dropped    delta = sum of p over the others
//   entropy    - sum p log p, in nats
//   distance   |h_full - h_sparse|, Euclidean, of outputs before any gate
//   bound      delta * (max of |v| over the others + |h_sparse|)     (theorem 1 there): >= distance
#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

#include "base/json.h"

namespace ssa {

using torch::Tensor;

/// Queries of one sequence. q, k and v of one float dtype and device, rotated.
struct MeasuredQueries {
  Tensor q;       // [n_rows, n_heads, head_dim]
  Tensor tokens;  // [n_rows] int64, the key index each stands at
  Tensor k, v;    // [n_keys, n_kv_heads, head_dim]
  Tensor chosen;  // [n_kv_heads, n_rows, n_keys] bool; every query chooses a key up to itself
  double scale = 1.0;
};

/// The five, in that order: [n_heads, n_rows, 5] float64. In pieces of bounded memory.
Tensor measure_queries(const MeasuredQueries& queries);

/// Sums of one layer, by head.
class LayerMeasures {
 public:
  /// `measures`: of measure_queries(). `lonely`: share of keys without gradient, [n_kv_heads]
  /// float64; may be undefined.
  void add(const Tensor& measures, const Tensor& lonely);

  bool empty() const { return n_queries_ == 0; }
  /// {"heads": [{"sparsity", "dropped", "entropy", "distance", "bound", "ratio", "ratio_max"},
  /// ...], "keys_without_gradient": [a key/value head]}: means over queries; ratio = distance /
  /// bound.
  Json to_json() const;
  /// Queries and heads measured, and how many of them were beyond the bound by more than rounding.
  int64_t n_measured() const;
  int64_t n_beyond() const { return n_beyond_; }

 private:
  Tensor sums_;       // [n_heads, 6] on the CPU: the five and the ratio
  Tensor ratio_max_;  // [n_heads]
  Tensor lonely_;     // [n_kv_heads]
  int64_t n_queries_ = 0, n_sequences_ = 0, n_beyond_ = 0;
};

/// Means over layers and heads of what to_json() gave: the same names, one number each.
Json mean_of_layers(const std::vector<Json>& layers);

}  // namespace ssa
