// Backslash sequences, as text is typed in a shell.
#pragma once

#include <string>
#include <string_view>

namespace ssa {

/// What a flag's help says of its text.
inline constexpr const char* kEscapesHelp = "(\\n, \\t, \\0 and \\\\ stand for what they do in C)";

/// "\n", "\t" and "\0" as the characters they name; behind any other backslash the character
/// itself, and a backslash at the end stays.
std::string unescape(std::string_view text);

}  // namespace ssa
