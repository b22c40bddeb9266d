#include "tokenizer/oniguruma.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/error.h"
#include "tokenizer/unicode_tables.h"

namespace ssa {
namespace {

// White_Space. PCRE2's \s has U+180E too, which Unicode 6.3 took out.
constexpr std::string_view kSpaces =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

constexpr std::array<std::string_view, 37> kCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd", "Nl",
    "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk",
    "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Co", "Cs", "Cn"};

/// What new_categories() adds to a category, as items of a class.
std::string new_characters(std::string_view category) {
  std::string items;
  const auto put = [&](CharacterRange range) {
    char text[40];
    std::snprintf(text,
                  sizeof text,
                  "\\x{%X}-\\x{%X}",
                  static_cast<unsigned>(range.first),
                  static_cast<unsigned>(range.last));
    items += text;
  };
  CharacterRange pending = {1, 0};  // empty
  for (const CategoryRange& range : new_categories()) {
    if (!std::string_view(range.category).starts_with(category)) {
      continue;
    }
    if (range.first == pending.last + 1) {
      pending.last = range.last;
      continue;
    }
    if (pending.first <= pending.last) {
      put(pending);
    }
    pending = {range.first, range.last};
  }
  if (pending.first <= pending.last) {
    put(pending);
  }
  return items;
}

std::string category_items(std::string_view category) {
  return concat("\\p{", category, "}", new_characters(category));
}

std::string word_items() {
  return concat(
      "\\p{Alphabetic}", category_items("L"), category_items("M"), category_items("Nd"), "\\p{Pc}");
}

/// A set of characters: what stands between brackets, and whether the set is what is not there.
struct CharacterSet {
  std::string items;
  bool negated;
};

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string run() {
    if (pattern_.starts_with("(?i)")) {  // elsewhere its reach differs between the two
      out_ = "(?i)";
      at_ = 4;
    }
    while (!at_end()) {
      item();
    }
    return std::move(out_);
  }

 private:
  bool at_end() const { return at_ == pattern_.size(); }
  char peek() const { return at_end() ? '\0' : pattern_[at_]; }
  bool looking_at(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  char take() {
    check(!at_end(), "pattern '", pattern_, "' ends too early");
    return pattern_[at_++];
  }
  [[noreturn]] void unsupported(std::string_view construct) const {
    fail("pattern '", pattern_, "': ", construct, " at byte ", at_, " is not supported");
  }

  void item() {
    switch (const char c = take()) {
      case '\\':
        escape_outside_class();
        break;
      case '[':
        character_class();
        break;
      case '(':
        group();
        break;
      case '{':
        repeat();
        break;
      case '^':  // at the start of any line
        out_ += "(?m:^)";
        break;
      case '$':
        out_ += "(?m:$)";
        break;
      default:
        out_ += c;
    }
  }

  void group() {
    out_ += '(';
    if (peek() == '*') {
      unsupported("(*");
    }
    if (peek() != '?') {
      return;
    }
    for (const std::string_view kind : {"?:", "?=", "?!", "?<=", "?<!", "?>", "?i:", "?-i:"}) {
      if (looking_at(kind)) {
        out_ += kind;
        at_ += kind.size();
        return;
      }
    }
    unsupported("this kind of group");
  }

  /// Behind "{". An interval, whose sense differs if ? or + follows, or a plain brace.
  void repeat() {
    const size_t end = pattern_.find_first_not_of("0123456789,", at_);
    if (end == std::string_view::npos || pattern_[end] != '}' || end == at_) {
      out_ += "\\{";
      return;
    }
    const std::string_view bounds = pattern_.substr(at_, end - at_);
    const bool exact = bounds.find(',') == std::string_view::npos;
    at_ = end + 1;
    if (bounds == "," || peek() == '+' || (exact && peek() == '?')) {
      unsupported("this interval");
    }
    out_ += concat('{', bounds.front() == ',' ? "0" : "", bounds, '}');
  }

  void escape_outside_class() {
    if (looking_at("A") || looking_at("z")) {
      out_ += concat('\\', take());
      return;
    }
    CharacterSet set;
    if (escaped_set(set)) {
      out_ += concat(set.negated ? "[^" : "[", set.items, ']');
    } else {
      out_ += escaped_character();
    }
  }

  /// Behind a backslash: a set of characters (\s, \p{L}), or false, with nothing taken.
  bool escaped_set(CharacterSet& set) {
    const char c = peek();
    switch (c) {
      case 's':
      case 'S':
        set = {std::string(kSpaces), c == 'S'};
        break;
      case 'd':
      case 'D':
        set = {category_items("Nd"), c == 'D'};
        break;
      case 'w':
      case 'W':
        set = {word_items(), c == 'W'};
        break;
      case 'h':
      case 'H':
        set = {"0-9A-Fa-f", c == 'H'};
        break;
      case 'p':
      case 'P':
        take();
        set = property(c == 'P');
        return true;
      default:
        return false;
    }
    take();
    return true;
  }

  /// Behind \p or \P.
  CharacterSet property(bool negated) {
    const size_t end = pattern_.find('}', at_);
    if (peek() != '{' || end == std::string_view::npos) {
      unsupported("\\p without braces");
    }
    std::string_view name = pattern_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    if (std::find(kCategories.begin(), kCategories.end(), name) != kCategories.end()) {
      return {category_items(name), negated};
    }
    const bool is_word = name.size() > 2 && std::all_of(name.begin(), name.end(), [](char c) {
                           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
                         });
    if (!is_word) {
      unsupported("this property");
    }
    return {concat("\\p{sc:", name, '}'), negated};  // a script, or PCRE2 refuses it
  }

  /// Behind a backslash: one character, written so that PCRE2 takes it literally inside and outside
  /// a class.
  std::string escaped_character() {
    const char c = take();
    if (std::string_view("nrtfae").find(c) != std::string_view::npos) {
      return concat('\\', c);
    }
    switch (c) {
      case 'v':
        return "\\x{B}";
      case 'x':
        return hexadecimal();
      case 'u':
        check(pattern_.size() - at_ >= 4, "pattern '", pattern_, "' ends within \\u");
        at_ += 4;
        return concat("\\x{", hex_digits(pattern_.substr(at_ - 4, 4)), '}');
      default:
        break;
    }
    const bool alphanumeric =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (alphanumeric) {
      unsupported(concat('\\', c));
    }
    // A first byte above ASCII goes unescaped; its character's other bytes follow as plain text.
    return static_cast<unsigned char>(c) < 0x80 ? concat('\\', c) : std::string(1, c);
  }

  std::string hexadecimal() {
    if (peek() == '{') {
      const size_t end = pattern_.find('}', at_);
      check(end != std::string_view::npos, "pattern '", pattern_, "': \\x{ is not closed");
      const std::string_view digits = pattern_.substr(at_ + 1, end - at_ - 1);
      at_ = end + 1;
      return concat("\\x{", hex_digits(digits), '}');
    }
    const std::string_view digits = pattern_.substr(at_, 2);
    if (digits.size() < 2 || digits[0] > '7') {
      unsupported("\\x without two digits below 80");  // a single byte of a character
    }
    at_ += 2;
    return concat("\\x{", hex_digits(digits), '}');
  }

  std::string_view hex_digits(std::string_view digits) const {
    const bool ok = !digits.empty() && digits.size() <= 8 &&
                    digits.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
    if (!ok) {
      unsupported("this character number");
    }
    return digits;
  }

  /// Behind "[".
  void character_class() {
    out_ += '[';
    if (peek() == '^') {
      out_ += take();
    }
    bool may_be_range = false;  // the last item is a single character, so that "-" makes a range
    if (peek() == ']') {        // as the first item it stands for itself
      out_ += "\\]";
      take();
      may_be_range = true;
    }
    for (char c = take(); c != ']'; c = take()) {
      if (c == '[') {
        unsupported("a class within a class");
      }
      if (c == '&' && peek() == '&') {
        unsupported("&& in a class");
      }
      if (c == '-' && peek() != ']') {
        dash(may_be_range);
        may_be_range = false;
      } else {
        may_be_range = class_item(c);
      }
    }
    out_ += ']';
  }

  /// A dash that is not the last item: a range if a character stands on both sides, else itself.
  void dash(bool behind_character) {
    if (!behind_character) {
      out_ += "\\-";
      return;
    }
    out_ += '-';
    const char c = take();
    if (c == '[' || !class_item(c)) {
      unsupported("a range to a set of characters");
    }
  }

  /// True if it is a single character.
  bool class_item(char c) {
    if (c != '\\') {
      out_ += c == '-' ? "\\-" : std::string(1, c);
      return true;
    }
    CharacterSet set;
    if (!escaped_set(set)) {
      out_ += peek() == 'b' ? (take(), "\\x{8}") : escaped_character();
      return true;
    }
    if (!set.negated) {
      out_ += set.items;
    } else if (set.items == kSpaces) {
      out_ += "\\S\\x{180E}";
    } else {
      unsupported("a negated set within a class");
    }
    return false;
  }

  std::string_view pattern_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string oniguruma_to_pcre2(std::string_view pattern) {
  return Translator(pattern).run();
}

}  // namespace ssa
