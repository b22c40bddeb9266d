#include "base/escapes.h"

#include <algorithm>
#include <cstdio>

#include "base/text.h"

namespace ssa {
namespace {

char escaped_character(char letter) {
  switch (letter) {
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case '0':
      return '\0';
    default:
      return letter;
  }
}

/// Length of the UTF-8 character that `bytes` starts with; 0 if it starts with none.
size_t character_length(std::string_view bytes) {
  for (size_t n = 1; n <= std::min<size_t>(4, bytes.size()); ++n) {
    if (is_valid_utf8(bytes.substr(0, n))) {
      return n;
    }
  }
  return 0;
}

}  // namespace

std::string unescape(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '\\' && i + 1 < text.size();
    result += escape ? escaped_character(text[++i]) : text[i];
  }
  return result;
}

std::string escape_invalid_utf8(std::string_view bytes) {
  std::string out;
  for (size_t i = 0; i < bytes.size();) {
    const size_t length = character_length(bytes.substr(i));
    if (length > 0) {
      out += bytes.substr(i, length);
    } else {
      char text[8];
      std::snprintf(text, sizeof text, "\\x%02x", static_cast<unsigned char>(bytes[i]));
      out += text;
    }
    i += std::max<size_t>(1, length);
  }
  return out;
}

}  // namespace ssa
