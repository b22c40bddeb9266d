// The "post_processor" part of tokenizer.json: the tokens put around a text, such as BOS.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"

namespace ssa {

/// Immutable, safe from many threads.
class PostProcessor {
 public:
  /// TemplateProcessing (one at most), ByteLevel (which only moves offsets, and we have none) and
  /// Sequence; null for none. Throws Error naming anything else.
  explicit PostProcessor(const Json* json);

  /// `ids` with the template around them; without its special tokens unless `add_special`.
  std::vector<int64_t> apply(std::vector<int64_t> ids, bool add_special) const;

 private:
  void read(const Json& json);
  void read_template(const Json& json);

  struct Piece {
    bool is_text;
    std::vector<int64_t> special;  // if not the text
  };
  std::vector<Piece> template_;  // none: the text alone
};

}  // namespace ssa
