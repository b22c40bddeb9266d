// Backslash sequences: text as it is typed in a shell, and bytes that a terminal must not get raw.
#pragma once

#include <string>
#include <string_view>

namespace ssa {

/// What a flag's help says of its text.
inline constexpr const char* kEscapesHelp = "(\\n, \\t, \\0 and \\\\ stand for what they do in C)";

/// "\n", "\t" and "\0" as the characters they name; behind any other backslash the character
/// itself, and a backslash at the end stays.
std::string unescape(std::string_view text);

/// Bytes that are not UTF-8 as "\xff"; all else stays.
std::string escape_invalid_utf8(std::string_view bytes);

}  // namespace ssa
