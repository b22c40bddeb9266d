// Question-answer rows that are longer than a training row.
#pragma once

#include <cstdint>
#include <vector>

#include "data/token_dataset.h"

namespace ssa {

/// What is kept of a row.
struct QaFit {
  std::vector<bool> kept;  // [n_documents]
  uint64_t n_tokens = 0;   // kept documents, question and answer; 0: the row cannot be used
  uint64_t n_lost = 0;     // documents

  bool is_usable() const { return n_tokens > 0; }
};

/// Whole documents are left out from the end until the row has at most `room` tokens: those that
/// hold the answer after all others. Question and answer are kept; a row of which these do not fit,
/// or no document does, cannot be used.
QaFit fit_qa_row(const QaLengths& lengths, uint64_t room);

}  // namespace ssa
