#include "evaluation/suffix_frame.h"

#include <algorithm>

namespace ssa {

int64_t SuffixFrame::width() const {
  int64_t most = 0;
  for (const PromptFrame& prompt : prompts) {
    most = std::max(most, prompt.prefix_end);
  }
  return most;
}

int64_t SuffixFrame::n_places() const {
  int64_t most = 0;
  for (const PromptFrame& prompt : prompts) {
    most = std::max(most, prompt.sequence_end - prompt.prefix_end);
  }
  return most;
}

Tensor SuffixFrame::for_heads(const Tensor& x) const {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.insert(sizes.begin() + 1, n_kv_heads);
  return x.unsqueeze(1).expand(sizes).flatten(0, 1);
}

Tensor shown_prefix(const SuffixFrame& frame, const PromptFrame& prompt, Range queries) {
  const int64_t n_keys = std::min(queries.end, prompt.prefix_end);
  if (!frame.has_gists) {
    return torch::ones({queries.size(), n_keys}, torch::kBool);
  }
  Tensor mask = torch::zeros({queries.size(), n_keys}, torch::kBool);
  auto* row = mask.mutable_data_ptr<bool>();
  for (int64_t q = queries.begin; q < queries.end; ++q, row += n_keys) {
    for (const Range& range : visible_ranges(*prompt.layout, frame.rule, q)) {
      std::fill(row + std::min(range.begin, n_keys), row + std::min(range.end, n_keys), true);
    }
  }
  return mask;
}

}  // namespace ssa
