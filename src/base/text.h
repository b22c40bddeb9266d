// Small things with text: sizes, lists, near matches, UTF-8.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ssa {

/// "1.5 GiB", "512 B".
std::string format_bytes(uint64_t bytes);

/// The parts with `separator` between them.
std::string join(std::span<const std::string> parts, std::string_view separator);

/// The candidate with the least edit distance to `word`; if none is near (more than a third of its
/// letters off), the first that begins with it or that it begins with, from five letters on; or "".
std::string nearest_match(std::string_view word, std::span<const std::string> candidates);

/// Length of the longest prefix of `bytes` that ends on a character boundary: an incomplete last
/// character, which more bytes could still complete, is left out; bytes that are broken for good
/// count as complete.
size_t complete_utf8_prefix(std::string_view bytes);

/// `bytes` with every maximal broken part replaced by U+FFFD, exactly as Python's
/// bytes.decode("utf-8", "replace").
std::string replace_invalid_utf8(std::string_view bytes);

/// The same bytes as "\xff", for messages that a terminal shows.
std::string escape_invalid_utf8(std::string_view bytes);

/// True if `bytes` is well-formed UTF-8 (no surrogates, no overlong forms).
bool is_valid_utf8(std::string_view bytes);

/// Decodes one character at bytes[i] of well-formed UTF-8 and moves i behind it.
char32_t next_code_point(std::string_view bytes, size_t& i);

/// Appends the character as UTF-8.
void append_utf8(std::string& out, char32_t code_point);

}  // namespace ssa
