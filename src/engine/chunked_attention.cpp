#include "engine/chunked_attention.h"

#include <algorithm>

namespace ssa {

ChunkedAttention::ChunkedAttention(GistLayout prompt, const GistAttentionOptions& options)
    : layout_(std::move(prompt)),
      options_(options),
      n_prompt_(options.has_gists ? layout_.n_tokens() : layout_.n_raw()) {}

void ChunkedAttention::replace_prompt(GistLayout prompt, int64_t length) {
  layout_ = std::move(prompt);
  n_prompt_ = options_.has_gists ? layout_.n_tokens() : layout_.n_raw();
  rewind(length);
}

int64_t ChunkedAttention::layout_index(int64_t index) const {
  // Without gists in the sequence only tokens behind the prefix are asked for, and all its gists
  // lie before them.
  return options_.has_gists ? index : index + layout_.n_gists();
}

int64_t ChunkedAttention::prefix_end() const {
  return options_.has_gists ? layout_.prefix_end() : layout_.raw_before(layout_.prefix_end());
}

int64_t ChunkedAttention::pass_limit(int64_t first, int64_t wanted) const {
  const int64_t end = prefix_end();
  return first < end ? std::min(wanted, end - first) : wanted;
}

void ChunkedAttention::begin_pass(int64_t first, std::span<const int64_t> ids) {
  first_ = first;
  n_pass_ = static_cast<int64_t>(ids.size());
  is_gist_pass_ = next_gist_ != kRawLevel;
  if (is_gist_pass_) {
    layout_.append_gist(next_gist_);
    next_gist_ = kRawLevel;
  } else if (first >= n_prompt_) {
    layout_.append_raw(ids);
  }
}

void ChunkedAttention::close_chunk(int level) {
  if (options_.has_gists) {
    next_gist_ = level;
  } else {
    layout_.append_gist(level);
  }
}

ChunkedAttention::Rule ChunkedAttention::rule_of(int64_t layer) const {
  if (layout_.n_gists() == 0 || (!options_.has_gists && (layer == 0 || first_ < n_prompt_))) {
    return Rule::kDense;
  }
  const bool masked = !options_.unfold || layer == 0 || is_gist_pass_ || first_ < prefix_end();
  return masked && options_.has_gists ? Rule::kMasked : Rule::kUnfold;
}

}  // namespace ssa
