// Which keys a suffix's queries attend, all of them at once: one class a way to choose.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "evaluation/eval_method.h"
#include "evaluation/suffix_frame.h"
#include "evaluation/suffix_rows.h"

namespace ssa {

/// Keys attended on average a key/value head and query, in every layer: [n_layers]. Layer 0, where
/// nobody chooses, is left unread.
using KeyBudget = std::vector<double>;

/// Attention that each raw token of the prefix got, [n_layers] of [n_heads, width].
using ReceivedAttention = std::vector<Tensor>;

/// One way to choose, for some streams of all prompts. Layer 0 never asks. Between passes nothing
/// is copied to or from the device. Not thread-safe.
class KeyChooser {
 public:
  /// Serves streams [streams.begin, streams.end).
  explicit KeyChooser(Range streams) : streams_(streams) {}
  virtual ~KeyChooser() = default;
  const Range& streams() const { return streams_; }

  /// Told before each pass which of its rows that holds. The first pass holds the whole suffixes
  /// of all its streams and fixes what budgets come to for later ones.
  virtual void begin_pass(const SuffixRows& rows) = 0;
  /// Keys of the prefixes: [n_heads, n_rows, width] bool, heads of all prompts side by side. q:
  /// [n_rows, n_heads * group_size, head_dim], keys: [n_heads, width, head_dim].
  virtual Tensor attended(int64_t layer, const Tensor& q, const Tensor& keys) = 0;

 private:
  Range streams_;
};

/// A method that goes on from every prompt's prefix as a stream.
struct StreamMethod {
  EvalMethod method;
  /// By prompt. Null: the specification's for unfolding by gists, else its N / ratio beyond what is
  /// always attended. Not kept.
  std::vector<const KeyBudget*> budgets;
};

/// Does the method choose at all? Others (full, alone, gists, and everything where there are no
/// chunks) attend what their prefill's rule shows.
bool chooses(const EvalMethod& method, const PromptFrame& prompt);
/// May both be served by one chooser?
bool choose_alike(const EvalMethod& a, const EvalMethod& b);

/// For streams [first, first + methods.size()), which choose, and alike. The frame's layouts are
/// the methods'. `received`: for kHeavy.
std::unique_ptr<KeyChooser> make_key_chooser(std::span<const StreamMethod> methods,
                                             int64_t first_stream,
                                             const SuffixFrame& frame,
                                             const ReceivedAttention* received);

/// Vectors that a query at the end of a suffix is scored against, a key/value head and layer.
double n_scanned(const EvalMethod& method,
                 const SuffixFrame& frame,
                 const PromptFrame& prompt,
                 int64_t suffix_end);

}  // namespace ssa
