// What Python says about single characters.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ssa {

/// str.isspace() of a character.
bool is_python_space(char32_t character);
/// str.isalpha(), str.isalnum(), str.isdecimal() and str.isnumeric() of a character; a letter may
/// be of any script.
bool is_python_letter(char32_t character);
bool is_python_alnum(char32_t character);
bool is_python_decimal(char32_t character);
bool is_python_numeric(char32_t character);

/// Upper, lower or title case of one character as UTF-8. "ß" becomes "SS" or "Ss"; other characters
/// whose upper case is several (ligatures and the like) stay as they are.
std::string upper_case(char32_t character);
std::string lower_case(char32_t character);
std::string title_case(char32_t character);
bool is_upper_case(char32_t character);
bool is_lower_case(char32_t character);
/// Upper, lower or title case.
bool is_cased(char32_t character);

/// Bytes of white space at the start and at the end of well-formed UTF-8.
size_t leading_space(std::string_view text);
size_t trailing_space(std::string_view text);

}  // namespace ssa
