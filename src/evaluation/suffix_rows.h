// Suffix tokens of several streams that go through the model in one pass.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gist/gist_layout.h"

namespace ssa {

/// A stream is one method's way on from a shared prefix. Rows of a stream stand together, streams
/// in rising order. An index counts in the stream's own sequence: the prefix, then its suffix.
struct SuffixRows {
  std::vector<int64_t> streams;  // [n_rows]
  std::vector<int64_t> indices;  // [n_rows]

  int64_t size() const { return static_cast<int64_t>(streams.size()); }
  SuffixRows part(Range rows) const {
    return {{streams.begin() + rows.begin, streams.begin() + rows.end},
            {indices.begin() + rows.begin, indices.begin() + rows.end}};
  }
};

}  // namespace ssa
