// Gist SSA and H-SSA for one sequence: the gist mask over the prefix, selective unfolding behind it.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "engine/sequence.h"
#include "selection/pivot_bank.h"
#include "selection/select.h"

namespace ssa {

/// Told what each query unfolded.
class SelectionObserver {
 public:
  virtual ~SelectionObserver() = default;
  /// The query at `index` of the sequence, one key/value head: the kept gists, and how many keys it attended.
  virtual void on_selection(int64_t layer, int64_t index, int64_t kv_head, const KeptGists& kept, int64_t n_attended) = 0;
};

struct GistAttentionOptions {
  bool unfold = true;  // false: the gist mask throughout, nothing unfolded (--attention gists)
  /// False: the checkpoint has no gists. The layout's gists only mark chunks; the prompt is read with full attention,
  /// layer 0 attends everything, and generated tokens unfold by a pivot other than kGist.
  bool has_gists = true;
  MaskRule rule = {};
  SelectionOptions selection = {};
};

/// Source: arXiv 2604.20920, sections 3.2 and 3.3. Keeps all keys and values; what is attended is chosen anew for every
/// query, layer and key/value head. Deterministic; the pieces a prompt comes in do not matter. Not thread-safe.
class GistAttention : public SequenceAttention {
 public:
  /// `prompt` describes the whole prompt, gisted prefix and raw suffix; tokens behind it are generated ones, raw.
  GistAttention(KvCache cache, GistLayout prompt, const GistAttentionOptions& options);

  /// May be null; must outlive its use.
  void set_observer(SelectionObserver* observer) { observer_ = observer; }
  /// The prompt goes on in another way behind the first `length` tokens, which stay as they were read.
  void replace_prompt(GistLayout prompt, int64_t length);

  int64_t pass_limit(int64_t first, int64_t wanted) const override;
  void begin_pass(int64_t first, std::span<const int64_t> ids) override;
  Tensor attend(int64_t layer, const AttentionInput& in) override;
  void rewind(int64_t length) override;

  const GistLayout& layout() const { return layout_; }

 private:
  int64_t layout_index(int64_t index) const;
  int64_t prefix_end() const;
  bool attends_all(int64_t layer) const;
  const Tensor& pass_mask(torch::Device device);
  Tensor unfold(int64_t layer, const AttentionInput& in);
  std::vector<int64_t> choose(
      int64_t layer, int64_t row, int64_t kv_head, int64_t group_size, const std::vector<Tensor>& scores);

  KvCache cache_;
  GistLayout layout_;
  GistAttentionOptions options_;
  int64_t n_prompt_;  // tokens of the sequence
  int64_t first_ = 0, n_pass_ = 0;
  Tensor mask_;  // of this pass: [n_pass, first + n_pass] bool, made when first asked for
  std::vector<std::optional<PivotBank>> banks_;  // [n_layers], of the prefix
  SelectionObserver* observer_ = nullptr;
};

}  // namespace ssa
