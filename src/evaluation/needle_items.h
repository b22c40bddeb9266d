// Items with facts hidden in filler text, for the tasks niah and kv, and for training on them.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace ssa {

enum class NeedleKind {
  kSingle,      // one fact
  kMultiKey,    // several, of different names; one is asked for
  kMultiValue,  // several of one name, and all are asked for, in the text's order
  kKeyValue,    // a block of lines "key: value"; one is asked for
};

struct NeedleOptions {
  NeedleKind kind = NeedleKind::kMultiKey;
  int64_t n_items = 100;
  int64_t length = 3500;             // tokens of the document, at most
  int64_t n_facts = 4;               // of kMultiKey and kMultiValue; lines of kKeyValue
  std::optional<double> depth = {};  // where the fact asked for stands, 0 to 1; absent: anywhere
  bool training = false;             // names and sentences of which none occurs in evaluation items
  uint64_t seed = 1;
};

/// The facts' sentences and names do not overlap between training and evaluation. Each item is
/// {"id", "documents": [text], "question", "answers": [answer], "answer", "evidence": [[0, first,
/// behind]], "depth"} and a function of the options, its number, the filler and the tokenizer. The
/// question ends with a cue, so that the answer is what comes next. `count_tokens` gives a text's
/// length. Throws Error where length or filler are too short for the facts.
class NeedleMaker {
 public:
  NeedleMaker(const std::string& filler,
              NeedleOptions options,
              std::function<int64_t(const std::string&)> count_tokens);

  Json item(int64_t number) const;

 private:
  /// Numbers of sentences one behind the other, as many as there is room for.
  std::vector<size_t> choose_filler(uint64_t start, int64_t room) const;

  NeedleOptions options_;
  std::function<int64_t(const std::string&)> count_tokens_;
  std::vector<std::string> sentences_;  // of the filler, white space behind them included
  std::vector<int64_t> lengths_;        // in tokens
};

/// "single", "multi-key", "multi-value"; throws UsageError for another name.
NeedleKind parse_needle_kind(const std::string& name);

}  // namespace ssa
