// What is compared: kinds of prefill, ways to choose keys, budgets.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gist/gist_settings.h"
#include "selection/block_options.h"
#include "selection/selection_options.h"

namespace ssa {

/// How the prefix is read.
enum class PrefillKind {
  kNone,    // not at all
  kFull,    // full attention over the raw tokens
  kGist,    // gists laid, under the gist mask
  kSparse,  // block-sparse attention over the raw tokens, which the suffix goes on with
};
const char* prefill_name(PrefillKind kind);

/// What suffix queries attend besides the suffix up to themselves.
enum class KeyRule {
  kAll,     // the whole prefix
  kGists,   // what the gist mask shows
  kPivots,  // chunks chosen by a pivot, sinks, and the last chunks
  kWindow,  // 4 sinks and the last tokens (StreamingLLM, arXiv 2309.17453)
  kHeavy,   // the tokens that got most of the prefill's attention, and the last tokens (H2O, arXiv
            // 2306.14048)
};

struct EvalMethod {
  std::string name;  // as written
  PrefillKind prefill = PrefillKind::kFull;
  KeyRule rule = KeyRule::kAll;
  Pivot pivot = Pivot::kGist;   // of kPivots
  std::optional<double> ratio;  // absent where there is nothing to choose
  ChunkSizes chunk;             // of the layout
  BlockOptions blocks;          // of kSparse

  /// Unfolding by gists as the specification has it: whose keys the others are given as many of.
  bool sets_budget() const {
    return rule == KeyRule::kPivots && prefill == PrefillKind::kGist && pivot == Pivot::kGist;
  }
};

/// NAME[:PIVOT][:RATIO][@CHUNK]. Full prefill: full, mean, quest, recent, random, streaming, h2o,
/// each but full with a ratio. Gist prefill: gists, ssa (PIVOT gist, mean, quest, recent or
/// random). Block-sparse prefill: sparse[:BLOCKS][@BLOCK_SIZE]. No prefill: alone. RATIO: one of so
/// many tokens is attended; left out, the chunk's. CHUNK: as
/// --chunk, for this method alone.
struct MethodDefaults {
  ChunkSizes chunk = {8};
  bool has_gists = false;  // of the checkpoint
  BlockOptions blocks = {};
};
/// Throws UsageError naming the method and, for an unknown one, the nearest known; and for one that
/// the checkpoint cannot serve.
EvalMethod parse_method(const std::string& text, const MethodDefaults& defaults);
/// All of them, each once.
std::vector<EvalMethod> parse_methods(std::span<const std::string> texts,
                                      const MethodDefaults& defaults);

/// The grammar as --help shows it.
std::string method_help();

}  // namespace ssa
