// ssa eval sparsity: one model over windows of text in full and in sparse mode, and what its
// attention keeps, layer by layer. docs/evaluation.md lists what comes out.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/json.h"
#include "gist/word_boundary.h"
#include "models/causal_lm.h"
#include "training/sparse_sparse.h"

namespace ssa {

/// Whose choice of keys is measured: blocks', or gists' (which the model must have).
struct SparsityMethod {
  SparseSparseOptions blocks = {};  // variant kNsa: its sparse mode has three branches
  /// Of selection by gists; absent: blocks.
  struct Gists {
    GistSettings settings;
    SelectionOptions selection = {};
    const WordBoundaries* boundaries = nullptr;  // not owned; null: plain chunks
    int64_t suffix_tokens =
        512;  // behind the prefix: queries that choose, and tokens that are scored
  };
  std::optional<Gists> gists = {};
};

struct SparsityOptions {
  int64_t length = 4096;    // tokens a window
  int64_t n_windows = 4;    // at most
  int64_t n_queries = 256;  // measured a layer and window, evenly spaced, the last among them
  std::vector<int64_t> budgets = {};  // numbers of blocks whose sparse mode is scored besides
  /// Full-mode loss of a model trained with full attention, on the same windows: what the
  /// capability gap is taken from.
  std::optional<double> reference_loss = {};
};

/// Windows are consecutive, without anything in front of them; each reads n_windows' share of `ids`
/// alone. Losses are nats a token. Throws Error for a text shorter than a window and windows beyond
/// the model's positions.
Json measure_sparsity(CausalLM& model,
                      std::span<const int64_t> ids,
                      const SparsityMethod& method,
                      const SparsityOptions& options,
                      const std::function<void(int64_t done, int64_t all)>& progress = {});

}  // namespace ssa
