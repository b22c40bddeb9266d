#include "base/text.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <numeric>

namespace ssa {
namespace {

/// The form of a character by its first byte (Unicode 15, table 3-7): total length, and the range
/// of the second byte; length 0 if no character starts so.
struct LeadByte {
  int length;
  unsigned char second_low, second_high;
};

LeadByte lead_byte(unsigned char byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};  // no surrogates
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

/// What stands at the start of `bytes`: how many of them belong together, and whether they are a
/// whole character; if not, whether more bytes could make them one.
struct Scan {
  size_t length;
  bool valid;
  bool extendable;
};

Scan scan_character(std::string_view bytes) {
  const LeadByte lead = lead_byte(static_cast<unsigned char>(bytes[0]));
  if (lead.length <= 1) {
    return {1, lead.length == 1, false};
  }
  size_t n = 1;
  for (; n < static_cast<size_t>(lead.length) && n < bytes.size(); ++n) {
    const auto byte = static_cast<unsigned char>(bytes[n]);
    const unsigned char low = n == 1 ? lead.second_low : 0x80;
    const unsigned char high = n == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) {
      return {n, false, false};
    }
  }
  const bool whole = n == static_cast<size_t>(lead.length);
  return {n, whole, !whole};
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t substituted = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

/// The text with every broken stretch as instead(stretch).
template <class Fn>
std::string with_invalid_utf8(std::string_view bytes, const Fn& instead) {
  std::string out;
  out.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size();) {
    const Scan scan = scan_character(bytes.substr(i));
    const std::string_view stretch = bytes.substr(i, scan.length);
    if (scan.valid) {
      out += stretch;
    } else {
      out += instead(stretch);
    }
    i += scan.length;
  }
  return out;
}

}  // namespace

std::string format_bytes(uint64_t bytes) {
  constexpr std::array units = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < units.size()) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
  return text;
}

std::string join(std::span<const std::string> parts, std::string_view separator) {
  std::string out;
  for (const std::string& part : parts) {
    if (&part != parts.data()) {
      out += separator;
    }
    out += part;
  }
  return out;
}

std::string nearest_match(std::string_view word, std::span<const std::string> candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  for (const std::string& candidate : candidates) {
    const size_t least = std::min(word.size(), candidate.size());
    if (best.empty() && least > 4 && word.substr(0, least) == candidate.substr(0, least)) {
      best = candidate;
    }
  }
  return best;
}

size_t complete_utf8_prefix(std::string_view bytes) {
  // Only the last three bytes can begin an unfinished character.
  for (size_t back = 1; back <= std::min<size_t>(3, bytes.size()); ++back) {
    const size_t start = bytes.size() - back;
    const Scan scan = scan_character(bytes.substr(start));
    if (scan.extendable && scan.length == back) {
      return start;
    }
  }
  return bytes.size();
}

std::string replace_invalid_utf8(std::string_view bytes) {
  return with_invalid_utf8(bytes, [](std::string_view) { return std::string("\xEF\xBF\xBD"); });
}

std::string escape_invalid_utf8(std::string_view bytes) {
  return with_invalid_utf8(bytes, [](std::string_view broken) {
    std::string text;
    for (const char byte : broken) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned char>(byte));
      text += escape;
    }
    return text;
  });
}

bool is_valid_utf8(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size();) {
    const Scan scan = scan_character(bytes.substr(i));
    if (!scan.valid) {
      return false;
    }
    i += scan.length;
  }
  return true;
}

char32_t next_code_point(std::string_view bytes, size_t& i) {
  const auto lead = static_cast<unsigned char>(bytes[i]);
  const auto length = static_cast<size_t>(std::max(1, lead_byte(lead).length));
  static constexpr std::array<unsigned char, 5> kMask = {0, 0x7F, 0x1F, 0x0F, 0x07};
  char32_t code_point = lead & kMask[length];
  for (size_t n = 1; n < length; ++n) {
    code_point = (code_point << 6) | (static_cast<unsigned char>(bytes[i + n]) & 0x3F);
  }
  i += length;
  return code_point;
}

void append_utf8(std::string& out, char32_t c) {
  const auto put = [&](char32_t byte) {
    out += static_cast<char>(static_cast<unsigned char>(byte));
  };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6));
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3F));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

}  // namespace ssa
