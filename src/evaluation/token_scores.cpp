#include "evaluation/token_scores.h"

#include <algorithm>
#include <limits>

#include "gist/gist_layout.h"

namespace ssa {
namespace {

constexpr int64_t kRowsOfLogits = 512;  // at once: [rows, vocab_size] float32

}  // namespace

std::vector<double> to_numbers(const Tensor& values) {
  const Tensor here = values.to(torch::kCPU).contiguous();
  return {here.const_data_ptr<double>(), here.const_data_ptr<double>() + here.numel()};
}

std::vector<int64_t> to_ids(const Tensor& values) {
  const Tensor here = values.to(torch::kCPU).contiguous();
  return {here.const_data_ptr<int64_t>(), here.const_data_ptr<int64_t>() + here.numel()};
}

template <class Fn>
void TokenScorer::for_logits(const Tensor& hidden, const Fn& fn) const {
  for (int64_t begin = 0; begin < hidden.size(0); begin += kRowsOfLogits) {
    const int64_t end = std::min(begin + kRowsOfLogits, hidden.size(0));
    const Tensor logits = model_.logits(hidden.slice(0, begin, end));
    fn(Range{begin, end},
       logits.to(logits.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32));
  }
}

/// Overwrites the logits.
Tensor TokenScorer::best_of(Tensor logits) const {
  for (const int64_t id : never_) {
    if (id >= 0 && id < logits.size(1)) {
      logits.select(1, id).fill_(-std::numeric_limits<double>::infinity());
    }
  }
  return logits.argmax(1);
}

std::vector<int64_t> TokenScorer::likeliest(const Tensor& hidden) const {
  const torch::InferenceMode inference;
  std::vector<Tensor> best;
  for_logits(hidden, [&](Range, const Tensor& logits) { best.push_back(best_of(logits)); });
  return to_ids(torch::cat(best));
}

TokenScores TokenScorer::score(const Tensor& hidden, std::span<const int64_t> targets) const {
  if (hidden.size(0) == 0) {
    return {};
  }
  const torch::InferenceMode inference;
  const Tensor wanted = torch::tensor(std::vector<int64_t>(targets.begin(), targets.end()))
                            .to(hidden.device())
                            .repeat(hidden.size(0) / static_cast<int64_t>(targets.size()))
                            .unsqueeze(1);
  std::vector<Tensor> nll, best;
  for_logits(hidden, [&](Range rows, const Tensor& logits) {
    const Tensor at = logits.gather(1, wanted.slice(0, rows.begin, rows.end));
    nll.push_back((logits.logsumexp(1, true) - at).squeeze(1).to(torch::kFloat64));
    best.push_back(best_of(logits));
  });
  return {to_numbers(torch::cat(nll)), to_ids(torch::cat(best))};
}

}  // namespace ssa
