// An answer that grows by the likeliest token, as far as it can without asking the model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "evaluation/eval_prompt.h"
#include "evaluation/eval_setup.h"

namespace ssa {

/// As long as it goes the gold answer's way, what was predicted behind the gold answer's tokens is
/// what follows. Refers to all it is given.
class GreedyAnswer {
 public:
  /// `predictions`: what follows each token of the gold answer, from the question's last on.
  GreedyAnswer(const EvalSetup& setup, const EvalPrompt& prompt, std::vector<int64_t> predictions)
      : setup_(setup), prompt_(prompt), predictions_(std::move(predictions)) {}

  /// Takes in the next tokens where they are known. False: the answer is complete; else a pass
  /// behind its last token must say what follows.
  bool grow();
  void follow_with(int64_t id) { next_ = id; }

  int64_t last_id() const { return ids_.back(); }
  /// Of its last token, in the suffix.
  int64_t place() const { return static_cast<int64_t>(prompt_.suffix.size() + ids_.size()) - 1; }
  /// The first line that has text, or all where a line end does not end an answer.
  std::string text() const;

 private:
  bool is_complete();

  const EvalSetup& setup_;
  const EvalPrompt& prompt_;
  std::vector<int64_t> predictions_;
  std::vector<int64_t> ids_;
  std::string text_;
  int64_t next_ = -1;
  bool follows_gold_ = true;  // so far
};

}  // namespace ssa
