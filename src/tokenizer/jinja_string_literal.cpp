#include "tokenizer/jinja_string_literal.h"

#include "base/error.h"
#include "base/text.h"

namespace ssa {
namespace {

/// The value of a digit in base 16, or 16 if it is none.
unsigned digit_value(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? static_cast<unsigned>(lower - 'a') + 10 : 16;
}

/// Reads `count` digits behind \x, \u or \U at body[i] and moves i behind them.
char32_t hex_escape(std::string_view body, size_t& i, size_t count, char name) {
  check(body.size() - i >= count, "the escape \\", name, " needs ", count, " hexadecimal digits");
  char32_t value = 0;
  for (size_t n = 0; n < count; ++n, ++i) {
    const unsigned digit = digit_value(body[i]);
    check(digit < 16, "the escape \\", name, " needs ", count, " hexadecimal digits");
    value = value * 16 + digit;
  }
  check(value <= 0x10FFFF && (value < 0xD800 || value > 0xDFFF),
        "the escape \\",
        name,
        " names no character");
  return value;
}

/// Up to three octal digits, the first of them at body[i].
char32_t octal_escape(std::string_view body, size_t& i) {
  char32_t value = 0;
  for (int n = 0; n < 3 && i < body.size() && body[i] >= '0' && body[i] <= '7'; ++n, ++i) {
    value = value * 8 + static_cast<char32_t>(body[i] - '0');
  }
  return value;
}

/// The letter of a one-letter escape, or '\0'.
char simple_escape(char c) {
  switch (c) {
    case 'a':
      return '\a';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'v':
      return '\v';
    case '\\':
    case '\'':
    case '"':
      return c;
    default:
      return '\0';
  }
}

/// Resolves the escape whose letter is body[i] and moves i behind it.
void append_escape(std::string& out, std::string_view body, size_t& i) {
  const char c = body[i];
  if (const char plain = simple_escape(c); plain != '\0') {
    out += plain;
    ++i;
  } else if (c == '\n') {
    ++i;  // an escaped line break joins the lines
  } else if (c >= '0' && c <= '7') {
    append_utf8(out, octal_escape(body, i));
  } else if (c == 'x' || c == 'u' || c == 'U') {
    ++i;
    append_utf8(out, hex_escape(body, i, c == 'x' ? 2 : c == 'u' ? 4 : 8, c));
  } else {
    check(c != 'N', "the escape \\N is not supported; write the character or \\u");
    out += '\\';
  }
}

}  // namespace

std::string unescape_string_literal(std::string_view body) {
  std::string out;
  out.reserve(body.size());
  for (size_t i = 0; i < body.size();) {
    if (body[i] != '\\') {
      out += body[i++];
    } else {
      ++i;  // the lexer lets no string end here
      append_escape(out, body, i);
    }
  }
  return out;
}

}  // namespace ssa
