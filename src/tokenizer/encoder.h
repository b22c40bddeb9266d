// Text to ids: the chain of parts that tokenizer.json describes.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe_model.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"

namespace ssa {

/// Immutable, safe from many threads. Not movable: its parts point at each other.
class Encoder {
 public:
  /// Throws Error naming the part that is broken or not supported. "truncation" and "padding" are
  /// not looked at: they are settings of a program, not of the vocabulary.
  explicit Encoder(const Json& tokenizer_json);
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  /// `text` is well-formed UTF-8. A special token is recognised where none of its bytes lies in
  /// `plain` (ordered, apart from each other).
  std::vector<int64_t> encode(std::string_view text,
                              const std::vector<TextRange>& plain,
                              bool add_special) const;

  const BpeModel& model() const { return model_; }
  const AddedTokens& added() const { return added_; }

 private:
  class Run;

  BpeModel model_;
  Normalizer normalizer_;
  AddedTokens added_;
  PreTokenizer pre_tokenizer_;
  PostProcessor post_processor_;
};

}  // namespace ssa
