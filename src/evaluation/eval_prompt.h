// Items as tokens.
#pragma once

#include <vector>

#include "data/dataset_builder.h"
#include "evaluation/eval_item.h"
#include "tokenizer/tokenizer.h"

namespace ssa {

struct EvalPrompt {
  std::string id, where;
  std::vector<std::vector<int64_t>> pieces;  // of the prefix: gisted one by one; may be empty
  std::vector<int64_t> lead;    // BOS and the like, which stay where the prefix is left out; the
                                // start of pieces[0]
  std::vector<int64_t> suffix;  // the question, or the text to score
  std::vector<int64_t> answer;  // the first gold answer; empty: the suffix itself is scored
  std::vector<std::string> answers;
  std::vector<Range> evidence;  // raw tokens of the prefix, by number

  int64_t n_prefix() const;
};

struct PromptFormat {
  QaFormat qa = {};
  /// ppl, of a whole "text": raw tokens scored, and read before them (0: all that are there).
  int64_t suffix_tokens = 512;
  int64_t prefix_tokens = 0;
};
/// Those of a task: questions about documents as `ssa data build --kind qa` frames them; needles
/// and key/value items have their cue in the question, which goes on in a line of its own.
PromptFormat default_format(EvalTask task);

/// Throws Error naming file and line for a text too short to be split, or a field of no tokens.
EvalPrompt make_eval_prompt(const EvalItem& item,
                            const Tokenizer& tokenizer,
                            const PromptFormat& format);

}  // namespace ssa
