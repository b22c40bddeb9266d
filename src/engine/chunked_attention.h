// What the ways of attending over chunks share: a layout that grows with the sequence, and which
// rule holds where.
#pragma once

#include <span>
#include <vector>

#include "engine/sequence.h"
#include "gist/gist_layout.h"
#include "gist/mask.h"
#include "selection/select.h"
#include "selection/selection_options.h"

namespace ssa {

/// Told what each query unfolded.
class SelectionObserver {
 public:
  virtual ~SelectionObserver() = default;
  /// Whether on_selection() is to be told which gists were kept, which costs time.
  virtual bool wants_kept() const { return true; }
  /// The query at `index` of the sequence, one key/value head: the kept gists (empty unless
  /// wanted), and how many keys it attended.
  virtual void on_selection(
      int64_t layer, int64_t index, int64_t kv_head, const KeptGists& kept, int64_t n_attended) = 0;
};

struct GistAttentionOptions {
  bool unfold = true;  // false: the gist mask throughout, nothing unfolded (--attention gists)
  /// False: the checkpoint has no gists. The layout's gists only mark chunks; the prompt is read
  /// with full attention, layer 0 attends everything, and generated tokens unfold by a pivot other
  /// than kGist.
  bool has_gists = true;
  MaskRule rule = {};
  SelectionOptions selection = {};
};

/// Source: arXiv 2604.20920, sections 3.2 and 3.3. Deterministic; the pieces a prompt comes in do
/// not matter. Not thread-safe.
class ChunkedAttention : public SequenceAttention {
 public:
  /// `prompt` describes the whole prompt, gisted prefix and raw suffix; tokens behind it are
  /// generated ones, raw.
  ChunkedAttention(GistLayout prompt, const GistAttentionOptions& options);

  /// May be null; must outlive its use.
  void set_observer(SelectionObserver* observer) { observer_ = observer; }
  /// A gist of `level` closes what is open on the level below. Where the sequence has gists, the
  /// next pass must hold this one token alone; where it has none, the chunk is closed at once.
  void close_chunk(int level);
  /// The prompt goes on in another way behind the first `length` tokens, which stay as they were
  /// read.
  void replace_prompt(GistLayout prompt, int64_t length);
  const GistLayout& layout() const { return layout_; }
  bool has_gists() const { return options_.has_gists; }

  int64_t pass_limit(int64_t first, int64_t wanted) const override;
  void begin_pass(int64_t first, std::span<const int64_t> ids) override;

 protected:
  /// How the pass at hand attends in a layer.
  enum class Rule { kDense, kMasked, kUnfold };
  Rule rule_of(int64_t layer) const;
  /// Index in the layout of a token of the sequence.
  int64_t layout_index(int64_t index) const;
  int64_t prefix_end() const;

  GistLayout layout_;
  const GistAttentionOptions options_;
  int64_t n_prompt_;  // tokens of the sequence
  int64_t first_ = 0, n_pass_ = 0;
  int next_gist_ = kRawLevel;  // level of the token that comes next
  bool is_gist_pass_ = false;  // behind the prompt
  SelectionObserver* observer_ = nullptr;
};

}  // namespace ssa
