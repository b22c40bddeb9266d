#include "tokenizer/jinja_characters.h"

#include <utf8proc.h>

#include "base/text.h"

namespace ssa {
namespace {

utf8proc_category_t category(char32_t character) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(character));
}

std::string to_utf8(utf8proc_int32_t character) {
  std::string out;
  append_utf8(out, static_cast<char32_t>(character));
  return out;
}

}  // namespace

bool is_python_space(char32_t c) {
  if (c < 0x80) {
    return c == U' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F);
  }
  return c == 0x85 || category(c) == UTF8PROC_CATEGORY_ZS || c == 0x2028 || c == 0x2029;
}

bool is_python_letter(char32_t c) {
  const utf8proc_category_t kind = category(c);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

bool is_python_decimal(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_ND;
}

bool is_python_numeric(char32_t c) {
  const utf8proc_category_t kind = category(c);
  return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL ||
         kind == UTF8PROC_CATEGORY_NO;
}

bool is_python_alnum(char32_t c) {
  return is_python_letter(c) || is_python_numeric(c);
}

std::string upper_case(char32_t c) {
  return c == U'ß' ? "SS" : to_utf8(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}

std::string lower_case(char32_t c) {
  return to_utf8(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}

std::string title_case(char32_t c) {
  return c == U'ß' ? "Ss" : to_utf8(utf8proc_totitle(static_cast<utf8proc_int32_t>(c)));
}

bool is_upper_case(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LU;
}

bool is_lower_case(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LL;
}

bool is_cased(char32_t c) {
  return is_upper_case(c) || is_lower_case(c) || category(c) == UTF8PROC_CATEGORY_LT;
}

size_t leading_space(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    size_t next = i;
    if (!is_python_space(next_code_point(text, next))) {
      break;
    }
    i = next;
  }
  return i;
}

size_t trailing_space(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t start = end - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) {
      --start;
    }
    size_t next = start;
    if (!is_python_space(next_code_point(text, next))) {
      break;
    }
    end = start;
  }
  return text.size() - end;
}

}  // namespace ssa
