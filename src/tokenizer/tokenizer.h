// Byte-level BPE tokenizers as tokenizer.json describes them (Hugging Face tokenizers).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tokenizer/text_span.h"

namespace ssa {

struct EncodeOptions {
  bool add_special = true;  // run the post-processor: BOS and the like
  bool parse_special =
      true;  // recognise special tokens in the text; false: they are plain text. Added tokens that
             // are not special are recognised either way, as the library does.
};

/// Immutable after construction: every const method is safe from many threads. Token ids are int64,
/// as LibTorch wants them.
class Tokenizer {
 public:
  /// From tokenizer.json's content. Throws Error naming the part (model, normalizer, pre_tokenizer,
  /// ...) that is broken or not supported.
  static Tokenizer from_json(const Json& tokenizer_json);
  /// From a tokenizer.json file or a folder that holds one.
  static Tokenizer from_file(const std::filesystem::path& path);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// `text` is UTF-8; throws Error naming the byte offset if it is not (replace_invalid_utf8 mends
  /// it).
  std::vector<int64_t> encode(std::string_view text, const EncodeOptions& options = {}) const;
  /// One text in pieces: special tokens are recognised only where a whole match lies in template
  /// text.
  std::vector<int64_t> encode(std::span<const TextSpan> spans,
                              const EncodeOptions& options = {}) const;

  /// The text of `ids`, broken UTF-8 replaced by U+FFFD, as the library's decode does. Ids outside
  /// the vocabulary that the model's table has (padding rows) decode to nothing.
  std::string decode(std::span<const int64_t> ids, bool skip_special = false) const;
  /// The bytes that decode puts for one token: behind "Ġthe" those of " the". Empty for an id
  /// outside the vocabulary.
  std::string token_bytes(int64_t id) const;

  std::optional<int64_t> token_to_id(std::string_view token) const;
  /// The token as it stands in the vocabulary ("Ġthe"); throws Error for an id outside it.
  std::string id_to_token(int64_t id) const;
  /// Marked special in added_tokens.
  bool is_special(int64_t id) const;
  /// Largest id plus one, added tokens included.
  int64_t size() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

/// Turns a growing list of tokens into text, holding back bytes of an unfinished UTF-8 character.
/// Keeps a reference to the tokenizer. Not thread-safe.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_special = true);
  /// Text that is complete now; may be empty.
  std::string push(int64_t id);
  /// What was held back, broken bytes replaced.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string pending_;
};

}  // namespace ssa
