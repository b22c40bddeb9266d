#include "tokenizer/character_sets.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <ios>
#include <sstream>
#include <vector>

#include "base/error.h"
#include "tokenizer/unicode_tables.h"

namespace ssa {
namespace {

constexpr std::array<std::string_view, 35> kCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N", "Nd",
    "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm",
    "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cs"};

/// What new_categories() adds to a category; neighbours joined, because every range costs time.
std::vector<CharacterRange> new_characters(std::string_view category) {
  std::vector<CharacterRange> ranges;
  for (const CategoryRange& range : new_categories()) {
    if (!std::string_view(range.category).starts_with(category)) {
      continue;
    }
    if (!ranges.empty() && ranges.back().last + 1 == range.first) {
      ranges.back().last = range.last;
    } else {
      ranges.push_back({range.first, range.last});
    }
  }
  return ranges;
}

}  // namespace

bool is_category(std::string_view name) {
  return std::find(kCategories.begin(), kCategories.end(), name) != kCategories.end();
}

std::string category_items(std::string_view category) {
  std::ostringstream items;
  items << "\\p{" << category << '}' << std::hex;
  for (const CharacterRange& range : new_characters(category)) {
    items << "\\x{" << uint32_t{range.first} << "}-\\x{" << uint32_t{range.last} << '}';
  }
  return items.str();
}

std::string word_items() {
  return concat(
      "\\p{Alphabetic}", category_items("L"), category_items("M"), category_items("Nd"), "\\p{Pc}");
}

}  // namespace ssa
