// Split patterns are written for Oniguruma (its Ruby syntax, Unicode 16); we run them with PCRE2
// (Unicode 14).
#pragma once

#include <string>
#include <string_view>

namespace ssa {

/// The pattern in PCRE2's syntax, to be compiled with UTF and UCP: it matches what Oniguruma
/// matches, but that one letter never stands for two under (?i) (Oniguruma finds "ß" for "ss").
/// What means the same to both stays as it is; classes of characters (\s \w \d \h \p{..}) are spelt
/// out where the two disagree. Throws Error naming a construct that is not supported (back
/// references, \b, nested classes, options other than i). `pattern` is well-formed UTF-8.
std::string oniguruma_to_pcre2(std::string_view pattern);

}  // namespace ssa
