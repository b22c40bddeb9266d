#include "tokenizer/jinja_lexer.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/error.h"
#include "base/text.h"
#include "tokenizer/jinja_characters.h"
#include "tokenizer/jinja_string_literal.h"

namespace ssa {
namespace {

constexpr size_t kNone = std::string_view::npos;

/// "\r\n" and "\r" become "\n", and one newline at the very end goes.
std::string normalise_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      out += '\n';
    }
  }
  if (!out.empty() && out.back() == '\n') {
    out.pop_back();
  }
  return out;
}

bool is_name_start(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_' ||
         byte >= 0x80;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_name_part(char c) {
  return is_name_start(c) || is_digit(c);
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : text_(normalise_newlines(source)) {}

  std::vector<JinjaToken> run() {
    while (at_ < text_.size()) {
      lex_data();
      if (at_ < text_.size()) {
        lex_tag();
      }
    }
    emit(JinjaTokenKind::End, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(text_).substr(at_); }
  bool starts_with(std::string_view prefix) const {
    return rest().substr(0, prefix.size()) == prefix;
  }
  char peek(size_t offset = 0) const {
    return at_ + offset < text_.size() ? text_[at_ + offset] : '\0';
  }

  template <class... Parts>
  [[noreturn]] void fail_here(const Parts&... parts) const {
    fail("chat template line ", line_, ": ", parts...);
  }

  void emit(JinjaTokenKind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_});
  }

  void advance(size_t count) {
    const auto begin = text_.begin() + static_cast<ptrdiff_t>(at_);
    line_ += static_cast<int>(std::count(begin, begin + static_cast<ptrdiff_t>(count), '\n'));
    at_ += count;
  }

  /// The text up to the next tag. '-' in the tag strips all white space before it; without '+', a
  /// block or comment that stands first in its line loses its indentation.
  void lex_data() {
    const size_t tag = next_tag();
    std::string_view data = rest().substr(0, tag == kNone ? kNone : tag - at_);
    const size_t length = data.size();
    if (tag != kNone) {
      data = strip_before_tag(
          data, text_[tag + 1] == '{', tag + 2 < text_.size() ? text_[tag + 2] : '\0');
    }
    if (!data.empty()) {
      emit(JinjaTokenKind::Data, std::string(data));
    }
    advance(length);
  }

  size_t next_tag() const {
    for (size_t i = text_.find('{', at_); i != kNone; i = text_.find('{', i + 1)) {
      const char kind = i + 1 < text_.size() ? text_[i + 1] : '\0';
      if (kind == '{' || kind == '%' || kind == '#') {
        return i;
      }
    }
    return kNone;
  }

  std::string_view strip_before_tag(std::string_view data, bool is_print, char sign) const {
    if (sign == '-') {
      return data.substr(0, data.size() - trailing_space(data));
    }
    if (sign == '+' || is_print) {
      return data;
    }
    const size_t newline = data.rfind('\n');
    if (newline == kNone && !at_line_start_) {
      return data;
    }
    const size_t line_begin = newline == kNone ? 0 : newline + 1;
    const std::string_view indentation = data.substr(line_begin);
    return leading_space(indentation) == indentation.size() ? data.substr(0, line_begin) : data;
  }

  void lex_tag() {
    const char kind = peek(1);
    if (kind == '#') {
      return lex_comment();
    }
    if (kind == '%' && lex_raw()) {
      return;
    }
    const bool block = kind == '%';
    emit(block ? JinjaTokenKind::BlockBegin : JinjaTokenKind::PrintBegin, "");
    advance(2);
    if (peek() == '-' || peek() == '+') {
      advance(1);
    }
    lex_code(block);
  }

  void lex_comment() {
    const size_t begin = at_ + (peek(2) == '-' || peek(2) == '+' ? 3 : 2);
    const size_t end = text_.find("#}", begin);
    if (end == kNone) {
      fail_here("this comment has no end");
    }
    const char sign = end > begin ? text_[end - 1] : '\0';
    advance(end + 2 - at_);
    skip_after_tag(sign, true);
  }

  /// After a tag: '-' takes all white space, otherwise a block or comment takes one newline unless
  /// it ends with '+'.
  void skip_after_tag(char sign, bool trims_newline) {
    if (sign == '-') {
      advance(leading_space(rest()));
    } else if (sign != '+' && trims_newline && peek() == '\n') {
      advance(1);
    }
    at_line_start_ = at_ > 0 && text_[at_ - 1] == '\n';
  }

  /// {% raw %} ... {% endraw %}; false if another block begins here.
  bool lex_raw() {
    const std::optional<TagWord> begin = tag_word(at_, "raw");
    if (!begin || begin->end_sign == '+') {
      return false;
    }
    for (size_t i = text_.find("{%", begin->end); i != kNone; i = text_.find("{%", i + 1)) {
      const std::optional<TagWord> end = tag_word(i, "endraw");
      if (!end) {
        continue;
      }
      advance(begin->end - at_);
      skip_after_tag(begin->end_sign, false);
      // The white space that '-' took may reach into what precedes endraw, not beyond.
      const std::string_view body = std::string_view(text_).substr(at_, i > at_ ? i - at_ : 0);
      const std::string_view data = strip_before_tag(body, false, end->begin_sign);
      if (!data.empty()) {
        emit(JinjaTokenKind::Data, std::string(data));
      }
      advance(end->end - at_);
      skip_after_tag(end->end_sign, true);
      return true;
    }
    fail_here("'raw' has no 'endraw'");
  }

  struct TagWord {
    char begin_sign;  // '-', '+' or another character
    char end_sign;
    size_t end;  // behind the tag
  };

  /// The tag at `begin` if it consists of `word` alone.
  std::optional<TagWord> tag_word(size_t begin, std::string_view word) const {
    const std::string_view all = text_;
    size_t i = begin + 2;
    const char begin_sign = i < all.size() ? all[i] : '\0';
    if (begin_sign == '-' || begin_sign == '+') {
      ++i;
    }
    i += leading_space(all.substr(i));
    if (all.substr(i, word.size()) != word) {
      return std::nullopt;
    }
    i += word.size();
    i += leading_space(all.substr(i));
    const char end_sign = i < all.size() ? all[i] : '\0';
    if (end_sign == '-' || end_sign == '+') {
      ++i;
    }
    if (all.substr(i, 2) != "%}") {
      return std::nullopt;
    }
    return TagWord{begin_sign, end_sign, i + 2};
  }

  /// The inside of a tag up to its end, which does not count within brackets.
  void lex_code(bool block) {
    const int begin_line = line_;
    std::string open_brackets;
    while (true) {
      advance(leading_space(rest()));
      if (at_ >= text_.size()) {
        fail("chat template line ", begin_line, ": this tag has no end");
      }
      if (open_brackets.empty() && lex_tag_end(block)) {
        return;
      }
      lex_token(open_brackets);
    }
  }

  bool lex_tag_end(bool block) {
    const char sign = peek() == '-' || (block && peek() == '+') ? peek() : '\0';
    const std::string_view end = block ? "%}" : "}}";
    if (rest().substr(sign == '\0' ? 0 : 1, 2) != end) {
      return false;
    }
    emit(block ? JinjaTokenKind::BlockEnd : JinjaTokenKind::PrintEnd, "");
    advance(sign == '\0' ? 2 : 3);
    skip_after_tag(sign, block);
    return true;
  }

  void lex_token(std::string& open_brackets) {
    const char c = peek();
    if (is_digit(c)) {
      return lex_number();
    }
    if (is_name_start(c)) {
      size_t length = 1;
      while (is_name_part(peek(length))) {
        ++length;
      }
      emit(JinjaTokenKind::Name, std::string(rest().substr(0, length)));
      return advance(length);
    }
    if (c == '"' || c == '\'') {
      return lex_string(c);
    }
    lex_symbol(open_brackets);
  }

  void lex_string(char quote) {
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) {
      end += text_[end] == '\\' ? 2 : 1;
    }
    if (end >= text_.size()) {
      fail_here("this string has no end");
    }
    const std::string_view body = std::string_view(text_).substr(at_ + 1, end - at_ - 1);
    try {
      emit(JinjaTokenKind::Text, unescape_string_literal(body));
    } catch (const Error& error) {
      fail_here(error.what());
    }
    advance(end + 1 - at_);
  }

  void lex_number() {
    size_t length = 0;
    const auto take = [&](auto accepts) {
      while (accepts(peek(length)) || (peek(length) == '_' && accepts(peek(length + 1)))) {
        ++length;
      }
    };
    const char base = static_cast<char>(peek(1) | 0x20);
    bool real = false;
    if (peek() == '0' && (base == 'x' || base == 'o' || base == 'b')) {
      length = 2;
      take([](char c) { return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); });
    } else {
      take(is_digit);
      real = lex_fraction(length, take);
    }
    std::string digits(rest().substr(0, length));
    digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
    emit(real ? JinjaTokenKind::Real : JinjaTokenKind::Integer, std::move(digits));
    advance(length);
  }

  /// ".5", "e-3" or both behind the digits; a number behind a dot ("items.0.1") has none.
  template <class Take>
  bool lex_fraction(size_t& length, Take take) const {
    bool real = false;
    if (at_ > 0 && text_[at_ - 1] == '.') {
      return false;
    }
    if (peek(length) == '.' && is_digit(peek(length + 1))) {
      ++length;
      take(is_digit);
      real = true;
    }
    const size_t sign = peek(length + 1) == '+' || peek(length + 1) == '-' ? 1 : 0;
    if ((peek(length) | 0x20) == 'e' && is_digit(peek(length + 1 + sign))) {
      length += 1 + sign;
      take(is_digit);
      real = true;
    }
    return real;
  }

  void lex_symbol(std::string& open_brackets) {
    static constexpr std::array<std::string_view, 6> kPairs = {"//", "**", "==", "!=", ">=", "<="};
    const bool pair = std::find(kPairs.begin(), kPairs.end(), rest().substr(0, 2)) != kPairs.end();
    const std::string symbol(rest().substr(0, pair ? 2 : 1));
    if (std::string_view("+-/*%~[](){}=<>.:|,;").find(symbol[0]) == kNone && symbol != "!=") {
      fail_here("the character '", symbol, "' means nothing here");
    }
    balance(symbol[0], open_brackets);
    emit(JinjaTokenKind::Symbol, symbol);
    advance(symbol.size());
  }

  void balance(char c, std::string& open_brackets) const {
    static constexpr std::string_view kOpening = "([{", kClosing = ")]}";
    if (const size_t opening = kOpening.find(c); opening != kNone) {
      open_brackets += kClosing[opening];
    } else if (kClosing.find(c) != kNone) {
      if (open_brackets.empty() || open_brackets.back() != c) {
        fail_here("unexpected '",
                  c,
                  "'",
                  open_brackets.empty() ? "" : concat(", expected '", open_brackets.back(), "'"));
      }
      open_brackets.pop_back();
    }
  }

  const std::string text_;
  size_t at_ = 0;
  int line_ = 1;
  bool at_line_start_ = true;  // the last tag, or the start of the source, ended a line
  std::vector<JinjaToken> tokens_;
};

}  // namespace

std::vector<JinjaToken> lex_jinja(std::string_view source) {
  return Lexer(source).run();
}

}  // namespace ssa
