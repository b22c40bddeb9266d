// Which keys a suffix's queries attend, all of them at once: one class a way to choose.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "evaluation/eval_method.h"
#include "evaluation/suffix_rows.h"
#include "selection/unfold_mask.h"

namespace ssa {

/// The sequence as choosers see it. Without gists the layout's gists only mark chunks. The layout
/// goes as far as any suffix will.
struct SuffixFrame {
  std::shared_ptr<const GistLayout> layout;
  bool has_gists = false;
  MaskRule rule = {};
  int64_t prefix_end = 0;    // index in the sequence: the suffix begins here
  int64_t n_prompt = 0;      // queries from here on count as generated
  int64_t sequence_end = 0;  // no suffix goes further
  int64_t n_layers = 0;
  int64_t group_size = 1;
  torch::Device device = torch::kCPU;
};

/// Keys attended on average a key/value head and query, in every layer: [n_layers]. Layer 0, where
/// nobody chooses, is left unread.
using KeyBudget = std::vector<double>;

/// Attention that each raw token of the prefix got, [n_layers] of [n_kv_heads, n_prefix].
using ReceivedAttention = std::vector<Tensor>;

/// One way to choose, for some streams. Layer 0 never asks. Between passes nothing is copied to or
/// from the device. Not thread-safe.
class KeyChooser {
 public:
  /// Serves streams [streams.begin, streams.end).
  explicit KeyChooser(Range streams) : streams_(streams) {}
  virtual ~KeyChooser() = default;
  const Range& streams() const { return streams_; }

  /// Told before each pass which of its rows that holds. The first pass holds the whole suffixes
  /// of all its streams and fixes what budgets come to for later ones.
  virtual void begin_pass(const SuffixRows& rows) = 0;
  /// Keys of the prefix: [n_kv_heads or 1, n_rows, prefix_end] bool. q: [n_rows, n_heads,
  /// head_dim], keys: [n_kv_heads, prefix_end, head_dim].
  virtual Tensor attended(int64_t layer, const Tensor& q, const Tensor& keys) = 0;

 private:
  Range streams_;
};

/// A method that goes on from the prefix as a stream.
struct StreamMethod {
  EvalMethod method;
  /// Null: the specification's for unfolding by gists, else its N / ratio beyond what is always
  /// attended. Not kept.
  const KeyBudget* budget = nullptr;
};

/// Does the method choose at all? Others (full, alone, gists, and everything where there are no
/// chunks) attend what their prefill's rule shows.
bool chooses(const EvalMethod& method, const SuffixFrame& frame);
/// May both be served by one chooser?
bool choose_alike(const EvalMethod& a, const EvalMethod& b);

/// For streams [first, first + methods.size()), which choose, and alike. The frame's layout is the
/// methods'. `received`: for kHeavy.
std::unique_ptr<KeyChooser> make_key_chooser(std::span<const StreamMethod> methods,
                                             int64_t first_stream,
                                             const SuffixFrame& frame,
                                             const ReceivedAttention* received);

/// Vectors that a query at the end of a suffix is scored against, a key/value head and layer.
double n_scanned(const EvalMethod& method, const SuffixFrame& frame, int64_t suffix_end);

}  // namespace ssa
