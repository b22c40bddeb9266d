#include "evaluation/greedy_answer.h"

#include <algorithm>

#include "evaluation/prompt_layout.h"

namespace ssa {
namespace {

/// The text up to the first line end behind other text, without white space around it.
std::string first_line_of(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) {
    return {};
  }
  const std::string line = text.substr(begin, text.find('\n', begin) - begin);
  return line.substr(0, line.find_last_not_of(" \t\r") + 1);
}

}  // namespace

bool GreedyAnswer::is_complete() {
  text_ = setup_.model.tokenizer.decode(ids_, /*skip_special=*/true);
  const size_t begin = text_.find_first_not_of(" \t\r\n");
  const bool line_ended =
      begin != std::string::npos && text_.find('\n', begin) != std::string::npos;
  return static_cast<int64_t>(ids_.size()) >= most_new_tokens(prompt_, setup_.options) ||
         (line_ended && setup_.options.stop_at_newline);
}

bool GreedyAnswer::grow() {
  const auto& eos = setup_.model.model.config().eos_token_ids;
  while (true) {
    if (follows_gold_) {
      next_ = predictions_[ids_.size()];
    }
    if (std::find(eos.begin(), eos.end(), next_) != eos.end()) {
      return false;
    }
    follows_gold_ = follows_gold_ && ids_.size() < prompt_.answer.size() &&
                    next_ == prompt_.answer[ids_.size()];
    ids_.push_back(next_);
    if (is_complete()) {
      return false;
    }
    follows_gold_ = follows_gold_ && ids_.size() < predictions_.size();
    if (!follows_gold_) {
      return true;
    }
  }
}

std::string GreedyAnswer::text() const {
  return setup_.options.stop_at_newline ? first_line_of(text_) : text_;
}

}  // namespace ssa
