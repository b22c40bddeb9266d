// Sets of characters in PCRE2's syntax, as items of a bracketed class.
#pragma once

#include <string>
#include <string_view>

namespace ssa {

/// White_Space, which is Oniguruma's \s. PCRE2's has U+180E too, which Unicode 6.3 took out.
inline constexpr std::string_view kSpaceItems =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

/// Whether `name` is a general category that category_items knows: "L", "Lu", ... but not C and Cn,
/// which lose characters as Unicode grows.
bool is_category(std::string_view name);

/// The characters of a general category, with those that PCRE2's version of Unicode lacks.
std::string category_items(std::string_view category);

/// Oniguruma's \w within a class.
std::string word_items();
/// What its \w has outside of classes as well: there it takes the characters below U+0100 from ISO
/// 8859-1.
inline constexpr std::string_view kMoreWordItems = R"(\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";

}  // namespace ssa
