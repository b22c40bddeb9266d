#include "tokenizer/encoder.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace ssa {
namespace {

const Json& required(const Json& json, const char* key) {
  const Json* value = find_key(json, key);
  check(value != nullptr, "missing");
  return *value;
}

/// What `make` returns; its errors get the part's name.
template <class Make>
auto in_part(const char* part, const Make& make) {
  try {
    return make();
  } catch (const Error& error) {
    fail(part, ": ", error.what());
  }
}

std::string_view slice(std::string_view text, const TextRange& range) {
  return text.substr(range.begin, range.end - range.begin);
}

}  // namespace

Encoder::Encoder(const Json& json)
    : model_(in_part("model", [&] { return BpeModel(required(json, "model")); })),
      normalizer_(in_part("normalizer", [&] { return Normalizer(find_key(json, "normalizer")); })),
      added_(in_part(
          "added_tokens",
          [&] { return AddedTokens(find_key(json, "added_tokens"), model_, normalizer_); })),
      pre_tokenizer_(
          in_part("pre_tokenizer", [&] { return PreTokenizer(required(json, "pre_tokenizer")); })),
      post_processor_(in_part("post_processor",
                              [&] { return PostProcessor(find_key(json, "post_processor")); })) {}

/// One call of encode.
class Encoder::Run final : private WordSink {
 public:
  Run(const Encoder& parts, const std::vector<TextRange>& plain)
      : parts_(parts), plain_(plain), split_scratch_(parts.pre_tokenizer_) {}

  std::vector<int64_t> encode(std::string_view text) {
    const auto allow = [&](const TextRange& range) { return may_be_special(range); };
    for (const AddedPiece& piece : parts_.added_.split(text, false, allow)) {
      if (piece.token != nullptr) {
        ids_.push_back(piece.token->id);
      } else {
        encode_section(slice(text, piece.range), piece.range.begin);
      }
    }
    return std::move(ids_);
  }

 private:
  /// Text between tokens that were looked for as it stands, found at `offset`.
  void encode_section(std::string_view text, size_t offset) {
    if (parts_.normalizer_.is_identity()) {
      encode_normalized(text, [&](const TextRange& range) {
        return may_be_special({offset + range.begin, offset + range.end});
      });
      return;
    }
    const NormalizedText normalized = parts_.normalizer_.apply(text);
    encode_normalized(normalized.text(), [&](const TextRange& range) {
      const TextRange original = normalized.original(range);
      return may_be_special({offset + original.begin, offset + original.end});
    });
  }

  void encode_normalized(std::string_view text, const AddedTokens::AllowSpecial& allow) {
    for (const AddedPiece& piece : parts_.added_.split(text, true, allow)) {
      if (piece.token != nullptr) {
        ids_.push_back(piece.token->id);
      } else {
        parts_.pre_tokenizer_.split(slice(text, piece.range), split_scratch_, *this);
      }
    }
  }

  bool may_be_special(const TextRange& range) const {
    const auto next = std::upper_bound(
        plain_.begin(), plain_.end(), range.begin, [](size_t position, const TextRange& plain) {
          return position < plain.end;
        });
    return next == plain_.end() || next->begin >= range.end;
  }

  void word(std::string_view bytes) override {
    parts_.model_.encode_word(bytes, bpe_scratch_, ids_);
  }

  const Encoder& parts_;
  const std::vector<TextRange>& plain_;
  PreTokenizer::Scratch split_scratch_;
  BpeScratch bpe_scratch_;
  std::vector<int64_t> ids_;
};

std::vector<int64_t> Encoder::encode(std::string_view text,
                                     const std::vector<TextRange>& plain,
                                     bool add_special) const {
  return post_processor_.apply(Run(*this, plain).encode(text), add_special);
}

}  // namespace ssa
