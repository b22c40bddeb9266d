#include "tokenizer/oniguruma.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tokenizer/character_sets.h"

namespace ssa {
namespace {

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
    const size_t begin = out_.size();
    switch (const char c = take()) {
      case '{':
        repeat();
        return;  // what comes next may repeat the same atom
      case '*':
      case '+':
      case '?':
        out_ += c;
        return;
      case '(':
        groups_.push_back(begin);
        group();
        return;
      case ')':
        check(!groups_.empty(), "pattern '", pattern_, "': ) without (");
        atom_ = groups_.back();
        groups_.pop_back();
        out_ += c;
        return;
      case '\\':
        escape_outside_class();
        break;
      case '[':
        character_class();
        break;
      case '^':  // at the start of any line
        out_ += "(?m:^)";
        break;
      case '$':
        out_ += "(?m:$)";
        break;
      default:
        out_ += concat(c, take_continuation());
    }
    atom_ = begin;
  }

  /// The bytes of a character behind its first.
  std::string_view take_continuation() {
    const size_t begin = at_;
    while ((static_cast<unsigned char>(peek()) & 0xC0) == 0x80) {
      ++at_;
    }
    return pattern_.substr(begin, at_ - begin);
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

  /// Behind "{": an interval, or a plain brace. What PCRE2 reads as a possessive or lazy interval
  /// is a second repetition of the first: a{1,3}+ is (?:a{1,3})+, and a{3}? is (?:a{3})?.
  void repeat() {
    const size_t end = pattern_.find_first_not_of("0123456789,", at_);
    const bool closed = end != std::string_view::npos && pattern_[end] == '}';
    const std::string_view bounds = closed ? pattern_.substr(at_, end - at_) : "";
    const size_t comma = bounds.find(',');
    if (bounds.empty() || bounds == "," || (comma != bounds.rfind(','))) {
      atom_ = out_.size();
      out_ += "\\{";
      return;
    }
    at_ = end + 1;
    const bool again = peek() == '+' || (peek() == '?' && comma == std::string_view::npos);
    if (again) {
      check(atom_ < out_.size(), "pattern '", pattern_, "': nothing to repeat at byte ", at_);
      out_.insert(atom_, "(?:");
    }
    out_ += concat('{', comma == 0 ? "0" : "", bounds, again ? "})" : "}");
  }

  void escape_outside_class() {
    if (looking_at("A") || looking_at("z")) {
      out_ += concat('\\', take());
      return;
    }
    const bool is_word = peek() == 'w' || peek() == 'W';
    CharacterSet set;
    if (escaped_set(set)) {
      out_ += concat(set.negated ? "[^" : "[", set.items, is_word ? kMoreWordItems : "", ']');
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
        set = {std::string(kSpaceItems), c == 'S'};
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
    if (is_category(name)) {
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
    if (static_cast<unsigned char>(c) < 0x80) {
      return concat('\\', c);
    }
    return concat(c, take_continuation());
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
      out_ += c == '-' ? "\\-" : concat(c, take_continuation());
      return true;
    }
    CharacterSet set;
    if (!escaped_set(set)) {
      out_ += peek() == 'b' ? (take(), "\\x{8}") : escaped_character();
      return true;
    }
    if (!set.negated) {
      out_ += set.items;
    } else if (set.items == kSpaceItems) {
      out_ += "\\S\\x{180E}";
    } else {
      unsupported("a negated set within a class");
    }
    return false;
  }

  std::string_view pattern_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = 0;             // where in out_ the last atom begins: what a repetition repeats
  std::vector<size_t> groups_;  // where the open groups begin
};

}  // namespace

std::string oniguruma_to_pcre2(std::string_view pattern) {
  return Translator(pattern).run();
}

}  // namespace ssa
