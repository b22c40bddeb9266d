// Backslash escapes in the string literals of a template.
#pragma once

#include <string>
#include <string_view>

namespace ssa {

/// What stands between the quotes, with Python's escapes resolved; unknown escapes stay as written.
/// Throws Error for cut-off escapes and for characters that UTF-8 cannot hold.
std::string unescape_string_literal(std::string_view body);

}  // namespace ssa
