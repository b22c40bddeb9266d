#include "tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/text.h"
#include "tokenizer/unicode_tables.h"

namespace ssa {
namespace {

// Starters that NFC neither changes nor joins with a character before them: all that matters for
// speed. Text of nothing else is in NFC. Greek, Devanagari and the like take the slow path.
constexpr std::array<CharacterRange, 11> kInertInNfc = {{
    {0x0000, 0x02FF},  // Latin
    {0x0400, 0x0482},  // Cyrillic
    {0x0531, 0x0556},  // Armenian
    {0x0561, 0x0586},
    {0x05D0, 0x05EA},  // Hebrew
    {0x0620, 0x064A},  // Arabic
    {0x2010, 0x2027},  // punctuation
    {0x3001, 0x3029},  // punctuation, kana, Hangul letters
    {0x3041, 0x3096},
    {0x4E00, 0x9FFF},  // ideographs
    {0xAC00, 0xD7A3},  // Hangul
}};

bool contains(std::span<const CharacterRange> ranges, char32_t character) {
  const auto next = std::upper_bound(
      ranges.begin(), ranges.end(), character, [](char32_t c, const CharacterRange& range) {
        return c < range.first;
      });
  return next != ranges.begin() && character <= std::prev(next)->last;
}

bool composes(NormalForm form) {
  return form == NormalForm::kNfc || form == NormalForm::kNfkc;
}
bool is_compatible(NormalForm form) {
  return form == NormalForm::kNfkc || form == NormalForm::kNfkd;
}

int combining_class(utf8proc_int32_t character) {
  return utf8proc_get_property(character)->combining_class;
}

/// Sorts every run of marks by their class. utf8proc does it in quadratic time.
void order_marks(std::vector<utf8proc_int32_t>& characters) {
  const auto by_class = [](utf8proc_int32_t a, utf8proc_int32_t b) {
    return combining_class(a) < combining_class(b);
  };
  const auto is_mark = [](utf8proc_int32_t c) { return combining_class(c) != 0; };
  for (auto run = characters.begin(); run != characters.end();) {
    const auto begin = std::find_if(run, characters.end(), is_mark);
    run = std::find_if_not(begin, characters.end(), is_mark);
    std::stable_sort(begin, run, by_class);
  }
}

/// A normal form of one stretch of characters that the library's version of Unicode knows.
class StretchNormalizer {
 public:
  StretchNormalizer(NormalForm form, std::string& out)
      : composes_(composes(form)),
        options_(UTF8PROC_STABLE | (composes_ ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                 (is_compatible(form) ? UTF8PROC_COMPAT : 0)),
        out_(out) {}

  void add(char32_t character) {
    constexpr int kLongest = 18;  // characters that one decomposes into, in any version
    utf8proc_int32_t parts[kLongest];
    int last_boundclass = 0;
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(character),
                                           parts,
                                           kLongest,
                                           static_cast<utf8proc_option_t>(options_),
                                           &last_boundclass);
    check(n >= 0 && n <= kLongest, utf8proc_errmsg(n));
    characters_.insert(characters_.end(), parts, parts + n);
  }

  void finish() {
    order_marks(characters_);
    auto n = static_cast<utf8proc_ssize_t>(characters_.size());
    if (composes_) {
      n = utf8proc_normalize_utf32(characters_.data(), n, static_cast<utf8proc_option_t>(options_));
    }
    for (utf8proc_ssize_t i = 0; i < n; ++i) {
      append_utf8(out_, static_cast<char32_t>(characters_[static_cast<size_t>(i)]));
    }
    characters_.clear();
  }

 private:
  bool composes_;
  int options_;
  std::string& out_;
  std::vector<utf8proc_int32_t> characters_;
};

std::string normalize(std::string_view text, NormalForm form) {
  std::string out;
  StretchNormalizer stretch(form, out);
  for (size_t i = 0; i < text.size();) {
    const char32_t character = next_code_point(text, i);
    if (contains(inert_in_normal_forms(), character)) {
      stretch.finish();
      append_utf8(out, character);
    } else {
      stretch.add(character);
    }
  }
  stretch.finish();
  return out;
}

}  // namespace

Normalizer::Normalizer(const Json* json) {
  if (json != nullptr) {
    read(*json);
  }
}

void Normalizer::read(const Json& json) {
  const std::string type = get_or<std::string>(json, "type", "");
  if (type == "Sequence") {
    const Json* parts = find_key(json, "normalizers");
    check(parts != nullptr && parts->is_array(), "Sequence has no normalizers");
    for (const Json& part : *parts) {
      read(part);
    }
    return;
  }
  constexpr std::array<std::string_view, 4> kNames = {
      "NFC", "NFD", "NFKC", "NFKD"};  // as NormalForm
  const auto name = std::find(kNames.begin(), kNames.end(), type);
  check(name != kNames.end(),
        "type '",
        type,
        "' is not supported (known: Sequence, NFC, NFD, NFKC, NFKD)");
  forms_.push_back(static_cast<NormalForm>(name - kNames.begin()));
  only_nfc_ = only_nfc_ && forms_.back() == NormalForm::kNfc;
}

bool Normalizer::is_inert(char32_t character) const {
  return character < 0x80 || (only_nfc_ && contains(kInertInNfc, character));
}

/// The end of the inert characters that start at `at`.
size_t Normalizer::skip_inert(std::string_view text, size_t at) const {
  while (at < text.size()) {
    size_t next = at;
    if (!is_inert(next_code_point(text, next))) {
      break;
    }
    at = next;
  }
  return at;
}

/// The first inert character from `at` on.
size_t Normalizer::find_inert(std::string_view text, size_t at) const {
  while (at < text.size()) {
    size_t next = at;
    if (is_inert(next_code_point(text, next))) {
      break;
    }
    at = next;
  }
  return at;
}

NormalizedText Normalizer::apply(std::string_view text) const {
  NormalizedText result;
  for (size_t copied = 0; copied < text.size();) {
    // Nothing crosses from one inert character to the next, but marks may join the last one before
    // them.
    const size_t stop = skip_inert(text, copied);
    size_t begin = stop;
    if (stop < text.size() && stop > copied) {
      do {
        --begin;
      } while ((static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80);
    }
    const size_t end = find_inert(text, stop);
    const std::string_view original = text.substr(begin, end - begin);
    std::string now(original);
    for (const NormalForm form : forms_) {
      now = normalize(now, form);
    }
    result.text_ += text.substr(copied, begin - copied);
    if (now != original) {
      const size_t at = result.text_.size();
      result.changes_.push_back({{at, at + now.size()}, {begin, end}});
    }
    result.text_ += now;
    copied = end;
  }
  return result;
}

TextRange NormalizedText::original(const TextRange& range) const {
  // A bound within a changed part moves to that part's bound; behind it, it shifts along.
  const auto next = std::upper_bound(
      changes_.begin(), changes_.end(), range.begin, [](size_t position, const Change& change) {
        return position < change.now.begin;
      });
  TextRange result = range;
  if (next != changes_.begin()) {
    const Change& change = *std::prev(next);
    result.begin = range.begin < change.now.end
                       ? change.original.begin
                       : change.original.end + (range.begin - change.now.end);
  }
  const auto after = std::lower_bound(
      changes_.begin(), changes_.end(), range.end, [](const Change& change, size_t position) {
        return change.now.begin < position;
      });
  if (after != changes_.begin()) {
    const Change& change = *std::prev(after);
    result.end = range.end <= change.now.end ? change.original.end
                                             : change.original.end + (range.end - change.now.end);
  }
  return result;
}

}  // namespace ssa
