// Where the Hugging Face library's versions of Unicode differ from those of PCRE2 10.42 and
// utf8proc. Adding what newer versions of those two know already does no harm.
#pragma once

#include <span>

namespace ssa {

struct CharacterRange {
  char32_t first, last;  // both inclusive
};

struct CategoryRange {
  char32_t first, last;  // both inclusive
  char category[3];      // general category: "Lu"
};

/// Characters that Oniguruma (Unicode 16) puts into a category and Unicode 14 does not; ordered.
std::span<const CategoryRange> new_categories();

/// Further characters that Rust's char::is_numeric accepts; ordered.
std::span<const CharacterRange> new_numerals();

/// Characters that the library's normal forms (Unicode 9) leave alone: they neither decompose nor
/// compose, and count as starters; ordered.
std::span<const CharacterRange> inert_in_normal_forms();

}  // namespace ssa
