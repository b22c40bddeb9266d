#include "data/qa_fit.h"

#include <numeric>

namespace ssa {

QaFit fit_qa_row(const QaLengths& lengths, uint64_t room) {
  const size_t n_documents = lengths.documents.size();
  QaFit fit;
  fit.kept.assign(n_documents, true);
  fit.n_tokens = std::accumulate(
      lengths.documents.begin(), lengths.documents.end(), lengths.question + lengths.answer);
  for (const bool gold : {false, true}) {
    for (size_t i = n_documents; i-- > 0 && fit.n_tokens > room;) {
      if (lengths.gold[i] == gold) {
        fit.kept[i] = false;
        fit.n_tokens -= lengths.documents[i];
        ++fit.n_lost;
      }
    }
  }
  if (fit.n_tokens > room || fit.n_lost == n_documents) {
    fit.n_tokens = 0;
  }
  return fit;
}

}  // namespace ssa
