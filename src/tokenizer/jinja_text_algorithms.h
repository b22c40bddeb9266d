// Python's string methods on marked text. All of them are linear in the text, and keep the mark of
// every character.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "tokenizer/jinja_budget.h"
#include "tokenizer/jinja_text.h"

namespace ssa {

/// Byte offset of the first `wanted` at or behind `from`, or npos. Linear, whatever the texts are.
size_t find_bytes(std::string_view text, std::string_view wanted, size_t from = 0);
/// Byte offset of the last `wanted`, or npos.
size_t rfind_bytes(std::string_view text, std::string_view wanted);

/// Number of characters.
size_t count_characters(std::string_view text);
/// Byte offset of every character, and at the end the number of bytes.
std::vector<size_t> character_offsets(std::string_view text);

struct StripSides {
  bool left = true, right = true;
};
/// Without the characters of `characters` (nothing: white space) at its ends.
JinjaText strip(const JinjaText& text,
                const std::optional<JinjaText>& characters,
                StripSides sides = {});

/// At white space; max_splits < 0: no limit. Every piece spends steps.
std::vector<JinjaText> split_at_space(const JinjaText& text,
                                      int64_t max_splits,
                                      JinjaBudget& budget);
std::vector<JinjaText> rsplit_at_space(const JinjaText& text,
                                       int64_t max_splits,
                                       JinjaBudget& budget);
/// At `separator`; throw Error if it is empty.
std::vector<JinjaText> split_at(const JinjaText& text,
                                std::string_view separator,
                                int64_t max_splits,
                                JinjaBudget& budget);
std::vector<JinjaText> rsplit_at(const JinjaText& text,
                                 std::string_view separator,
                                 int64_t max_splits,
                                 JinjaBudget& budget);
std::vector<JinjaText> split_lines(const JinjaText& text, bool keep_ends, JinjaBudget& budget);

/// The first max_count (< 0: all) of `wanted` replaced.
JinjaText replace_text(const JinjaText& text,
                       std::string_view wanted,
                       const JinjaText& replacement,
                       int64_t max_count,
                       JinjaBudget& budget);

JinjaText upper(const JinjaText& text);
JinjaText lower(const JinjaText& text);
/// The first character in upper case, the others in lower case.
JinjaText capitalize(const JinjaText& text);
/// str.title(): upper case behind everything that is no cased letter.
JinjaText title(const JinjaText& text);
JinjaText reversed(const JinjaText& text);
/// With HTML's five special characters escaped.
JinjaText html_escaped(const JinjaText& text);

/// `text` repeated; no more than JinjaText::kMaxBytes.
JinjaText repeated(const JinjaText& text, int64_t count, JinjaBudget& budget);

}  // namespace ssa
