// Suffix tokens of several prompts and streams that go through the model in one pass.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gist/gist_layout.h"

namespace ssa {

/// A stream is one method's way on from a shared prefix. Every prompt has the same rows: rows of a
/// stream stand together, streams in rising order. Where a prompt has less to say than others its
/// rows go on as padding: tokens that nobody asks about, at the places behind its own.
struct SuffixRows {
  std::vector<int64_t> streams;              // [n_rows]
  std::vector<std::vector<int64_t>> places;  // [n_prompts][n_rows], from 0 where a suffix begins
  /// [n_prompts]: rows of each stream, from its first on, that are no padding.
  std::vector<int64_t> lengths;

  int64_t size() const { return static_cast<int64_t>(streams.size()); }
  SuffixRows part(Range rows) const {
    SuffixRows own{{streams.begin() + rows.begin, streams.begin() + rows.end}, {}, lengths};
    for (const auto& of_prompt : places) {
      own.places.emplace_back(of_prompt.begin() + rows.begin, of_prompt.begin() + rows.end);
    }
    return own;
  }
};

}  // namespace ssa
