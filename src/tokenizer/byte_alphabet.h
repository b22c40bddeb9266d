// How byte-level vocabularies write bytes: GPT-2's alphabet of 256 printable characters. Printable
// Latin-1 stands for itself; the 68 other bytes, in order, are U+0100, U+0101, ... (so a space is
// "Ġ").
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ssa {

/// Any bytes, written in the alphabet.
std::string bytes_to_token(std::string_view bytes);

/// The bytes that a token stands for, or nothing if it holds a character outside the alphabet.
/// `token` is well-formed UTF-8.
std::optional<std::string> token_to_bytes(std::string_view token);

}  // namespace ssa
