// Cuts the source of a chat template into tokens, with jinja2's rules for white space.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ssa {

enum class JinjaTokenKind {
  Data,  // text between the tags
  PrintBegin,
  PrintEnd,
  BlockBegin,
  BlockEnd,
  Name,
  Text,     // a string literal; `text` is its value
  Integer,  // `text` holds the digits as Python reads them, without '_'
  Real,
  Symbol,  // an operator or bracket
  End
};

struct JinjaToken {
  JinjaTokenKind kind;
  std::string text;
  int line;  // from 1
};

/// Throws Error "chat template line N: ..." for tags and strings that do not end and characters
/// that mean nothing. The last token is End. White space is treated as with trim_blocks and
/// lstrip_blocks.
std::vector<JinjaToken> lex_jinja(std::string_view source);

}  // namespace ssa
