#include "tokenizer/jinja_text_algorithms.h"

#include <string.h>  // memmem

#include <algorithm>
#include <limits>
#include <string>
#include <unordered_set>
#include <utility>

#include "base/text.h"
#include "tokenizer/jinja_characters.h"

namespace ssa {
namespace {

constexpr size_t kNone = std::string_view::npos;
constexpr size_t kStepsPerPiece = 6;  // a value, a text and its marks, some 200 bytes

/// Collects pieces of one text.
class Pieces {
 public:
  Pieces(const JinjaText& text, JinjaBudget& budget) : text_(text), budget_(budget) {
    budget_.spend_bytes(2 * text.size());
  }
  void add(size_t begin, size_t end) {
    budget_.spend(kStepsPerPiece);
    pieces_.push_back(text_.slice(begin, end));
  }
  std::vector<JinjaText> take() { return std::move(pieces_); }
  std::vector<JinjaText> take_reversed() {
    std::reverse(pieces_.begin(), pieces_.end());
    return std::move(pieces_);
  }

 private:
  const JinjaText& text_;
  JinjaBudget& budget_;
  std::vector<JinjaText> pieces_;
};

int64_t unlimited_if_negative(int64_t count) {
  return count < 0 ? std::numeric_limits<int64_t>::max() : count;
}

std::string reversed_bytes(std::string_view bytes) {
  return {bytes.rbegin(), bytes.rend()};
}

template <class Map>
JinjaText map_characters(const JinjaText& text, Map map) {
  JinjaText out;
  text.for_each_character(
      [&](char32_t c, std::string_view, bool is_input) { out.append(map(c), is_input); });
  return out;
}

bool is_line_end(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

}  // namespace

size_t find_bytes(std::string_view text, std::string_view wanted, size_t from) {
  if (from > text.size()) {
    return kNone;
  }
  if (wanted.empty()) {
    return from;
  }
  constexpr size_t kShort = 64;
  if (wanted.size() <= kShort) {
    return text.find(wanted, from);
  }
  // glibc's memmem is linear in the worst case too, which find is not.
  const void* found = memmem(text.data() + from, text.size() - from, wanted.data(), wanted.size());
  return found == nullptr ? kNone
                          : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

size_t rfind_bytes(std::string_view text, std::string_view wanted) {
  const size_t found = find_bytes(reversed_bytes(text), reversed_bytes(wanted));
  return found == kNone ? kNone : text.size() - found - wanted.size();
}

size_t count_characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::vector<size_t> character_offsets(std::string_view text) {
  std::vector<size_t> offsets;
  for (size_t i = 0; i < text.size();) {
    offsets.push_back(i);
    next_code_point(text, i);
  }
  offsets.push_back(text.size());
  return offsets;
}

JinjaText strip(const JinjaText& text,
                const std::optional<JinjaText>& characters,
                StripSides sides) {
  const std::string& bytes = text.bytes();
  std::unordered_set<char32_t> wanted;
  if (characters) {
    characters->for_each_character([&](char32_t c, std::string_view, bool) { wanted.insert(c); });
  }
  const auto goes = [&](char32_t c) {
    return characters ? wanted.contains(c) : is_python_space(c);
  };
  size_t begin = 0;
  size_t end = bytes.size();
  for (size_t next = 0; sides.left && begin < end && goes(next_code_point(bytes, next));) {
    begin = next;
  }
  while (sides.right && end > begin) {
    size_t last = end - 1;
    while ((static_cast<unsigned char>(bytes[last]) & 0xC0) == 0x80) {
      --last;
    }
    size_t next = last;
    if (!goes(next_code_point(bytes, next))) {
      break;
    }
    end = last;
  }
  return text.slice(begin, end);
}

std::vector<JinjaText> split_at_space(const JinjaText& text,
                                      int64_t max_splits,
                                      JinjaBudget& budget) {
  const std::string& bytes = text.bytes();
  Pieces pieces(text, budget);
  const int64_t limit = unlimited_if_negative(max_splits);
  size_t i = leading_space(bytes);
  for (int64_t n = 0; i < bytes.size(); ++n) {
    if (n == limit) {
      pieces.add(i, bytes.size());
      break;
    }
    const size_t begin = i;
    size_t end = i;
    for (size_t next = i; next < bytes.size() && !is_python_space(next_code_point(bytes, next));) {
      end = next;
    }
    pieces.add(begin, end);
    i = end + leading_space(std::string_view(bytes).substr(end));
  }
  return pieces.take();
}

std::vector<JinjaText> rsplit_at_space(const JinjaText& text,
                                       int64_t max_splits,
                                       JinjaBudget& budget) {
  // The words, of which all but the last max_splits are joined again by what stood between them.
  const std::vector<JinjaText> words = split_at_space(text, -1, budget);
  const auto n_words = static_cast<int64_t>(words.size());
  if (max_splits < 0 || n_words <= max_splits + 1) {
    return words;
  }
  size_t end = text.size() - trailing_space(text.bytes());
  for (int64_t i = n_words - 1; i >= n_words - max_splits; --i) {
    end -= words[static_cast<size_t>(i)].size();
    end -= trailing_space(std::string_view(text.bytes()).substr(0, end));
  }
  std::vector<JinjaText> out = {text.slice(0, end)};
  out.insert(out.end(), words.end() - max_splits, words.end());
  return out;
}

std::vector<JinjaText> split_at(const JinjaText& text,
                                std::string_view separator,
                                int64_t max_splits,
                                JinjaBudget& budget) {
  check(!separator.empty(), "split: the separator is empty");
  Pieces pieces(text, budget);
  size_t begin = 0;
  for (int64_t left = unlimited_if_negative(max_splits); left > 0; --left) {
    const size_t found = find_bytes(text.bytes(), separator, begin);
    if (found == kNone) {
      break;
    }
    pieces.add(begin, found);
    begin = found + separator.size();
  }
  pieces.add(begin, text.size());
  return pieces.take();
}

std::vector<JinjaText> rsplit_at(const JinjaText& text,
                                 std::string_view separator,
                                 int64_t max_splits,
                                 JinjaBudget& budget) {
  check(!separator.empty(), "rsplit: the separator is empty");
  Pieces pieces(text, budget);
  const std::string bytes = reversed_bytes(text.bytes());
  const std::string wanted = reversed_bytes(separator);
  size_t begin = 0;  // in reversed bytes
  for (int64_t left = unlimited_if_negative(max_splits); left > 0; --left) {
    const size_t found = find_bytes(bytes, wanted, begin);
    if (found == kNone) {
      break;
    }
    pieces.add(bytes.size() - found, bytes.size() - begin);
    begin = found + wanted.size();
  }
  pieces.add(0, bytes.size() - begin);
  return pieces.take_reversed();
}

std::vector<JinjaText> split_lines(const JinjaText& text, bool keep_ends, JinjaBudget& budget) {
  const std::string& bytes = text.bytes();
  Pieces pieces(text, budget);
  size_t begin = 0;
  for (size_t i = 0; i < bytes.size();) {
    const size_t end = i;
    const char32_t c = next_code_point(bytes, i);
    if (!is_line_end(c)) {
      continue;
    }
    i += c == U'\r' && i < bytes.size() && bytes[i] == '\n' ? 1 : 0;
    pieces.add(begin, keep_ends ? i : end);
    begin = i;
  }
  if (begin < bytes.size()) {
    pieces.add(begin, bytes.size());
  }
  return pieces.take();
}

JinjaText replace_text(const JinjaText& text,
                       std::string_view wanted,
                       const JinjaText& replacement,
                       int64_t max_count,
                       JinjaBudget& budget) {
  budget.spend_bytes(text.size());
  JinjaText out;
  size_t done = 0;  // all before it has been written
  size_t from = 0;
  for (int64_t left = unlimited_if_negative(max_count); left > 0; --left) {
    const size_t found = find_bytes(text.bytes(), wanted, from);
    if (found == kNone) {
      break;
    }
    budget.spend_bytes(replacement.size());
    out.append(text, done, found);
    out.append(replacement);
    done = found + wanted.size();
    from = done;
    if (wanted.empty()) {  // stands before every character and at the end
      if (from == text.size()) {
        break;
      }
      next_code_point(text.bytes(), from);
    }
  }
  out.append(text, done, text.size());
  return out;
}

JinjaText upper(const JinjaText& text) {
  return map_characters(text, upper_case);
}

JinjaText lower(const JinjaText& text) {
  return map_characters(text, lower_case);
}

JinjaText capitalize(const JinjaText& text) {
  bool first = true;
  return map_characters(text, [&](char32_t c) {
    return std::exchange(first, false) ? title_case(c) : lower_case(c);
  });
}

JinjaText title(const JinjaText& text) {
  bool behind_letter = false;
  return map_characters(text, [&](char32_t c) {
    const bool lowers = behind_letter;
    behind_letter = is_cased(c);
    return lowers ? lower_case(c) : title_case(c);
  });
}

JinjaText reversed(const JinjaText& text) {
  const std::vector<size_t> offsets = character_offsets(text.bytes());
  JinjaText out;
  for (size_t i = offsets.size() - 1; i > 0; --i) {
    out.append(text, offsets[i - 1], offsets[i]);
  }
  return out;
}

JinjaText html_escaped(const JinjaText& text) {
  return map_characters(text, [](char32_t c) -> std::string {
    switch (c) {
      case U'&':
        return "&amp;";
      case U'<':
        return "&lt;";
      case U'>':
        return "&gt;";
      case U'\'':
        return "&#39;";
      case U'"':
        return "&#34;";
      default: {
        std::string same;
        append_utf8(same, c);
        return same;
      }
    }
  });
}

JinjaText repeated(const JinjaText& text, int64_t count, JinjaBudget& budget) {
  if (text.empty() || count <= 0) {
    return {};
  }
  check(static_cast<uint64_t>(count) <= JinjaText::kMaxBytes / text.size(),
        "a text is longer than ",
        JinjaText::kMaxBytes,
        " bytes");
  budget.spend_bytes(text.size() * static_cast<size_t>(count));
  JinjaText out;
  JinjaText power = text;  // repeated 1, 2, 4, ... times
  for (int64_t left = count; left > 0; left >>= 1) {
    if (left & 1) {
      out.append(power);
    }
    if (left > 1) {
      power.append(JinjaText(power));
    }
  }
  return out;
}

}  // namespace ssa
