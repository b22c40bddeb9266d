// Which keys a suffix's queries attend, all of them at once: one class a way to choose.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "evaluation/eval_method.h"
#include "selection/unfold_mask.h"

namespace ssa {

/// The sequence as choosers see it. Without gists the layout's gists only mark chunks. The layout
/// goes as far as any suffix will.
struct SuffixFrame {
  std::shared_ptr<const GistLayout> layout;
  bool has_gists = false;
  MaskRule rule = {};
  int64_t prefix_end = 0;  // index in the sequence: the suffix begins here
  int64_t n_prompt = 0;    // queries from here on count as generated
  int64_t n_layers = 0;
  int64_t group_size = 1;
  torch::Device device = torch::kCPU;
};

/// Keys attended on average a key/value head and query, in every layer: [n_layers]. Layer 0, where
/// nobody chooses, is left unread.
using KeyBudget = std::vector<double>;

/// One method on one sequence. Layer 0 never asks. Not thread-safe.
class KeyChooser {
 public:
  virtual ~KeyChooser() = default;
  /// Told before each pass over suffix tokens which indices of the sequence it holds.
  virtual void begin_pass(Range queries) = 0;
  /// [n_kv_heads or 1, n_queries, n_keys] bool, n_keys = queries.end. q: [n_queries, n_heads,
  /// head_dim], keys: [n_kv_heads, n_keys, head_dim].
  virtual Tensor attended(int64_t layer, const Tensor& q, const Tensor& keys) = 0;
  /// Vectors that a query of the pass is scored against, a key/value head and layer.
  virtual double n_scanned() const { return 0; }
};

/// Attention that each raw token of the prefix got, [n_layers] of [n_kv_heads, n_prefix].
using ReceivedAttention = std::vector<Tensor>;

/// Null where the method attends what its prefill's rule shows (full, alone, gists). `budget` null:
/// the specification's for unfolding by gists, else its N / ratio beyond what is always attended.
/// The first pass fixes what the budget comes to for later ones. `received`: for kHeavy.
std::unique_ptr<KeyChooser> make_key_chooser(const EvalMethod& method,
                                             const SuffixFrame& frame,
                                             const KeyBudget* budget,
                                             const ReceivedAttention* received);

/// What each query of a pass sees of the suffix, and nothing before it: [n_queries, n_keys] bool.
Tensor suffix_mask(Range queries, int64_t prefix_end, torch::Device device);

}  // namespace ssa
