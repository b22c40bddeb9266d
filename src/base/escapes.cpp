#include "base/escapes.h"

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

}  // namespace

std::string unescape(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '\\' && i + 1 < text.size();
    result += escape ? escaped_character(text[++i]) : text[i];
  }
  return result;
}

}  // namespace ssa
