// The "pre_tokenizer" part of tokenizer.json: cuts text into the words that BPE encodes one by one.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tokenizer/split_regex.h"

namespace ssa {

/// Takes words in the order of the text. The views live as long as the call.
class WordSink {
 public:
  virtual void word(std::string_view bytes) = 0;

 protected:
  ~WordSink() = default;
};

/// What becomes of the text that a pattern matches.
enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// A chain of splits, each cutting the pieces of the one before. Immutable, safe from many threads.
class PreTokenizer {
 public:
  /// Split, Digits, ByteLevel and Sequence; ByteLevel must be there, and last. Throws Error naming
  /// anything else.
  explicit PreTokenizer(const Json& json);

  /// Memory for split(); one for each thread. Keeps a reference to the pre-tokenizer.
  class Scratch {
   public:
    explicit Scratch(const PreTokenizer& owner);

   private:
    friend class PreTokenizer;
    std::vector<RegexMatcher> matchers;  // one a stage
  };

  /// Hands every word of `text` (well-formed UTF-8) to `sink`.
  void split(std::string_view text, Scratch& scratch, WordSink& sink) const;

 private:
  struct Stage {
    SplitRegex regex;
    SplitBehavior behavior;
    bool invert;  // what is not matched counts as match
  };

  void read(const Json& json);
  void read_byte_level(const Json& json);
  void run(size_t stage, std::string_view text, Scratch& scratch, WordSink& sink) const;

  std::vector<Stage> stages_;
  std::optional<size_t> byte_level_at_;  // the stages from here on are ByteLevel's
  bool add_prefix_space_ = false;        // ByteLevel puts a space before pieces that begin without
};

}  // namespace ssa
