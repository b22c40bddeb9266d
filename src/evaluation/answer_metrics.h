// How an answer is held against the gold ones (SQuAD's rules, arXiv 1606.05250).
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace ssa {

/// Lower case (ASCII), without punctuation (ASCII), without the words a, an and the, white space
/// as single blanks.
std::string normalize_answer(std::string_view text);

/// The best over the gold answers. Two empty normalised texts are equal.
struct AnswerScores {
  bool exact = false;     // equal
  double f1 = 0;          // of the words, counted with multiplicity
  bool contains = false;  // a gold answer is part of the answer, both normalised
};
AnswerScores score_answer(std::string_view answer, std::span<const std::string> gold);

}  // namespace ssa
