// The "normalizer" part of tokenizer.json: Unicode's normal forms.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tokenizer/split_regex.h"

namespace ssa {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// Normalised text that remembers where it came from.
class NormalizedText {
 public:
  const std::string& text() const { return text_; }
  /// The original bytes that `range` of the text came from; the whole of a part that changed.
  TextRange original(const TextRange& range) const;

 private:
  friend class Normalizer;
  struct Change {
    TextRange now, original;
  };
  std::string text_;
  std::vector<Change> changes_;  // ordered; what lies between was copied
};

/// Immutable, safe from many threads.
class Normalizer {
 public:
  /// NFC, NFD, NFKC, NFKD and Sequence; null for none. Throws Error naming anything else.
  explicit Normalizer(const Json* json);

  /// True if there is nothing to do for any text.
  bool is_identity() const { return forms_.empty(); }
  /// `text` is well-formed UTF-8. O(n log n).
  NormalizedText apply(std::string_view text) const;

 private:
  void read(const Json& json);
  size_t skip_inert(std::string_view text, size_t at) const;
  size_t find_inert(std::string_view text, size_t at) const;
  bool is_inert(char32_t character) const;

  std::vector<NormalForm> forms_;  // one after the other
  bool only_nfc_ = true;
};

}  // namespace ssa
