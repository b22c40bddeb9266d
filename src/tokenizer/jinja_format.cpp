#include "tokenizer/jinja_format.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace ssa {
namespace {

bool is_printable(char32_t character) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(character))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return character == U' ';
    default:
      return true;
  }
}

/// "\n" and the like, or the shortest of \x41, \u0041 and \U00000041.
std::string python_escape(char32_t character) {
  switch (character) {
    case U'\n':
      return "\\n";
    case U'\r':
      return "\\r";
    case U'\t':
      return "\\t";
    default:
      break;
  }
  char escaped[16];
  const char* form = character < 0x100 ? "\\x%02x" : character < 0x10000 ? "\\u%04x" : "\\U%08x";
  std::snprintf(escaped, sizeof escaped, form, static_cast<unsigned>(character));
  return escaped;
}

/// Python prefers single quotes, and double ones where that saves escapes.
JinjaText quoted(const JinjaText& text) {
  const std::string& bytes = text.bytes();
  const bool double_quotes =
      bytes.find('\'') != std::string::npos && bytes.find('"') == std::string::npos;
  const char quote = double_quotes ? '"' : '\'';
  const bool is_input = text.has_input();
  JinjaText out(std::string(1, quote), is_input);
  text.for_each_character([&](char32_t c, std::string_view character, bool marked) {
    if (c == static_cast<char32_t>(quote) || c == U'\\') {
      out.append("\\", marked);
      out.append(character, marked);
    } else if (is_printable(c)) {
      out.append(character, marked);
    } else {
      out.append(python_escape(c), marked);
    }
  });
  out.append(std::string(1, quote), is_input);
  return out;
}

std::string json_escape(char32_t c, bool ascii_only) {
  switch (c) {
    case U'"':
      return "\\\"";
    case U'\\':
      return "\\\\";
    case U'\n':
      return "\\n";
    case U'\r':
      return "\\r";
    case U'\t':
      return "\\t";
    case U'\f':
      return "\\f";
    case U'\b':
      return "\\b";
    default:
      break;
  }
  char escaped[16] = "";
  if (c < 0x20 || (ascii_only && c >= 0x7F && c < 0x10000)) {
    std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
  } else if (ascii_only && c >= 0x10000) {
    const auto offset = static_cast<unsigned>(c - 0x10000);
    std::snprintf(escaped,
                  sizeof escaped,
                  "\\u%04x\\u%04x",
                  0xD800 + (offset >> 10),
                  0xDC00 + (offset & 0x3FF));
  }
  return escaped;
}

/// Writes repr() of nested values.
class ReprWriter {
 public:
  explicit ReprWriter(JinjaBudget& budget) : budget_(budget) {}

  void write(const JinjaValue& value) {
    budget_.spend(1);
    switch (value.kind()) {
      case JinjaKind::Undefined:
        return out_.append("Undefined", false);
      case JinjaKind::None:
        return out_.append("None", value.is_input());
      case JinjaKind::Bool:
        return out_.append(value.as_bool() ? "True" : "False", value.is_input());
      case JinjaKind::Int:
        return out_.append(std::to_string(value.as_int()), value.is_input());
      case JinjaKind::Float:
        return out_.append(python_float(value.as_real()), value.is_input());
      case JinjaKind::Text:
        budget_.spend_bytes(value.as_text().size());
        return out_.append(quoted(value.as_text()));
      case JinjaKind::Sequence:
        return write_sequence(value);
      case JinjaKind::Mapping:
        return write_mapping(value);
      default:
        fail("a value of type ", value.type_name(), " cannot be printed");
    }
  }

  JinjaText take() { return std::move(out_); }

 private:
  void write_sequence(const JinjaValue& value) {
    const JinjaSequence& sequence = value.as_sequence();
    check(sequence.kind != SequenceKind::Range, "a range cannot be printed; make it a list first");
    const bool tuple = sequence.kind == SequenceKind::Tuple;
    const bool view = !tuple && sequence.kind != SequenceKind::List;
    if (view) {
      out_.append(std::string(value.type_name()) + "(", false);
    }
    out_.append(tuple ? "(" : "[", value.is_input());
    bool first = true;
    for (const JinjaValue& item : sequence.items) {
      separate(first, value.is_input());
      write(item);
    }
    out_.append(tuple ? (sequence.items.size() == 1 ? ",)" : ")") : "]", value.is_input());
    if (view) {
      out_.append(")", false);
    }
  }

  void write_mapping(const JinjaValue& value) {
    out_.append("{", value.is_input());
    bool first = true;
    for (const auto& [key, item] : value.as_mapping().entries) {
      separate(first, value.is_input());
      write(key);
      out_.append(": ", value.is_input());
      write(item);
    }
    out_.append("}", value.is_input());
  }

  void separate(bool& first, bool is_input) {
    if (!first) {
      out_.append(", ", is_input);
    }
    first = false;
  }

  JinjaBudget& budget_;
  JinjaText out_;
};

/// Writes json.dumps() of nested values. Structure is marked as the container is: what the template
/// built is the template's.
class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, JinjaBudget& budget) : style_(style), budget_(budget) {}

  void write(const JinjaValue& value) {
    budget_.spend(1);
    const bool is_input = value.is_input();
    switch (value.kind()) {
      case JinjaKind::None:
        return out_.append("null", is_input);
      case JinjaKind::Bool:
        return out_.append(value.as_bool() ? "true" : "false", is_input);
      case JinjaKind::Int:
        return out_.append(std::to_string(value.as_int()), is_input);
      case JinjaKind::Float:
        return out_.append(number(value.as_real()), is_input);
      case JinjaKind::Text:
        return write_text(value.as_text());
      case JinjaKind::Mapping:
        return write_mapping(value);
      case JinjaKind::Sequence:
        if (value.is_sequence(SequenceKind::List) || value.is_sequence(SequenceKind::Tuple)) {
          return write_list(value);
        }
        [[fallthrough]];
      default:
        fail("a value of type ", value.type_name(), " has no JSON form");
    }
  }

  JinjaText take() { return std::move(out_); }

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return python_float(value);
  }

  void write_text(const JinjaText& text) {
    budget_.spend_bytes(text.size());
    const bool is_input = text.has_input();
    out_.append("\"", is_input);
    text.for_each_character([&](char32_t c, std::string_view character, bool marked) {
      const std::string escaped = json_escape(c, style_.ascii_only);
      out_.append(escaped.empty() ? character : std::string_view(escaped), marked);
    });
    out_.append("\"", is_input);
  }

  void write_list(const JinjaValue& value) {
    const JinjaItems& items = value.as_sequence().items;
    out_.append("[", value.is_input());
    ++level_;
    for (const JinjaValue& item : items) {
      begin_item(&item == items.data(), value.is_input());
      write(item);
    }
    end_container(items.empty(), "]", value.is_input());
  }

  void write_mapping(const JinjaValue& value) {
    std::vector<const std::pair<JinjaValue, JinjaValue>*> entries;
    for (const auto& entry : value.as_mapping().entries) {
      entries.push_back(&entry);
    }
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [&](const auto* a, const auto* b) {
        return jinja_less(a->first, b->first, budget_);
      });
    }
    out_.append("{", value.is_input());
    ++level_;
    for (const auto* entry : entries) {
      begin_item(entry == entries.front(), value.is_input());
      write_key(entry->first);
      out_.append(style_.key_separator.bytes(), value.is_input());
      write(entry->second);
    }
    end_container(entries.empty(), "}", value.is_input());
  }

  /// JSON's keys are strings: numbers and the like are put in quotes.
  void write_key(const JinjaValue& key) {
    if (key.is(JinjaKind::Text)) {
      return write_text(key.as_text());
    }
    check(key.is_number() || key.is(JinjaKind::None),
          "a ",
          key.type_name(),
          " cannot be a key in JSON");
    out_.append("\"", key.is_input());
    write(key);
    out_.append("\"", key.is_input());
  }

  void begin_item(bool first, bool is_input) {
    if (!first) {
      out_.append(style_.item_separator.bytes(), is_input);
    }
    new_line(is_input);
  }

  void end_container(bool empty, std::string_view bracket, bool is_input) {
    --level_;
    if (!empty) {
      new_line(is_input);
    }
    out_.append(bracket, is_input);
  }

  void new_line(bool is_input) {
    if (!style_.indent) {
      return;
    }
    out_.append("\n", is_input);
    for (int i = 0; i < level_; ++i) {
      out_.append(style_.indent->bytes(), is_input);
    }
  }

  const JsonStyle& style_;
  JinjaBudget& budget_;
  JinjaText out_;
  int level_ = 0;
};

}  // namespace

std::string python_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  // Python writes an exponent from 1e16 up and below 1e-4; the digits are the shortest either way.
  const double size = std::fabs(value);
  const bool plain = size == 0 || (size >= 1e-4 && size < 1e16);
  std::array<char, 40> digits{};
  const auto result =
      std::to_chars(digits.data(),
                    digits.data() + digits.size(),
                    value,
                    plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(digits.data(), result.ptr);
  if (plain && text.find('.') == std::string::npos) {
    text += ".0";
  }
  return text;
}

JinjaText jinja_str(const JinjaValue& value, JinjaBudget& budget) {
  if (value.is(JinjaKind::Text)) {
    budget.spend_bytes(value.as_text().size());
    return value.as_text();
  }
  if (value.is(JinjaKind::Undefined)) {
    return {};
  }
  return jinja_repr(value, budget);
}

JinjaText jinja_repr(const JinjaValue& value, JinjaBudget& budget) {
  ReprWriter writer(budget);
  writer.write(value);
  return writer.take();
}

JinjaText jinja_json(const JinjaValue& value, const JsonStyle& style, JinjaBudget& budget) {
  JsonWriter writer(style, budget);
  writer.write(value);
  return writer.take();
}

}  // namespace ssa
