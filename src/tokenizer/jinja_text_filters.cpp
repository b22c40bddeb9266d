// Filters that make texts and numbers.
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "tokenizer/jinja_characters.h"
#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_text_algorithms.h"

namespace ssa {
namespace {

JinjaText self_text(JinjaCall& call) {
  return jinja_str(call.self, call.budget);
}

void check_defined(const JinjaValue& value) {
  if (value.is(JinjaKind::Undefined)) {
    fail(value.undefined_reason());
  }
}

template <JinjaText (*kAlgorithm)(const JinjaText&)>
JinjaValue text_filter(JinjaCall& call) {
  call.bind({});
  return JinjaValue::text(kAlgorithm(self_text(call)));
}

JinjaText same_text(const JinjaText& text) {
  return text;
}

JinjaValue safe(JinjaCall& call) {
  call.bind({});
  return JinjaValue::markup(self_text(call));
}

JinjaValue escape(JinjaCall& call) {
  call.bind({});
  return JinjaValue::markup(call.self.is_markup() ? self_text(call)
                                                  : html_escaped(self_text(call)));
}

/// Upper case behind white space and opening brackets, which differs from str.title().
JinjaText word_title(const JinjaText& text) {
  JinjaText out;
  bool word_begins = true;
  text.for_each_character([&](char32_t c, std::string_view, bool is_input) {
    const bool separates =
        is_python_space(c) || std::u32string_view(U"-({[<").find(c) != std::u32string_view::npos;
    out.append(word_begins ? upper_case(c) : lower_case(c), is_input);
    word_begins = separates;
  });
  return out;
}

JinjaValue trim(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"chars"});
  std::optional<JinjaText> characters;
  if (!arguments.absent(0)) {
    characters = arguments.text_or(0, "");
  }
  return JinjaValue::text(strip(self_text(call), characters));
}

JinjaValue replace(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"old", "new", "count"}, 2);
  return JinjaValue::text(replace_text(self_text(call),
                                       jinja_str(arguments[0], call.budget).bytes(),
                                       jinja_str(arguments[1], call.budget),
                                       arguments.absent(2) ? -1 : arguments.int_or(2, -1),
                                       call.budget));
}

JinjaValue indent(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"width", "first", "blank"});
  const bool by_text = arguments.has(0) && arguments[0].is(JinjaKind::Text);
  const JinjaText space = by_text ? arguments[0].as_text()
                                  : repeated(JinjaText(" "), arguments.int_or(0, 4), call.budget);
  JinjaText text = self_text(call);
  text.append("\n", false);  // so that a newline at the end begins a further, empty line
  JinjaText out;
  bool first_line = true;
  for (const JinjaText& line : split_lines(text, false, call.budget)) {
    const bool indented =
        first_line ? arguments.flag_or(1, false) : !line.empty() || arguments.flag_or(2, false);
    out.append(first_line ? "" : "\n", false);
    out.append(indented ? space : JinjaText());
    out.append(line);
    first_line = false;
  }
  return JinjaValue::text(std::move(out));
}

JinjaValue wordcount(JinjaCall& call) {
  call.bind({});
  int64_t n = 0;
  bool in_word = false;
  self_text(call).for_each_character([&](char32_t c, std::string_view, bool) {
    const bool word = is_python_alnum(c) || c == U'_';
    n += word && !in_word ? 1 : 0;
    in_word = word;
  });
  return JinjaValue::integer(n);
}

/// What tojson's `indent` and `separators` say; json.dumps drops the space behind commas when it
/// indents.
JsonStyle json_style(const BoundArguments& arguments, JinjaBudget& budget) {
  JsonStyle style;
  style.ascii_only = arguments.flag_or(0, false);
  if (!arguments.absent(1)) {
    style.indent = arguments[1].is(JinjaKind::Text)
                       ? arguments[1].as_text()
                       : repeated(JinjaText(" "), arguments.int_or(1, 0), budget);
    style.item_separator = JinjaText(",");
  }
  if (!arguments.absent(2)) {
    const JinjaItems separators = jinja_items(arguments[2], budget);
    check(separators.size() == 2 && separators[0].is(JinjaKind::Text) &&
              separators[1].is(JinjaKind::Text),
          "tojson: 'separators' must be two strings");
    style.item_separator = separators[0].as_text();
    style.key_separator = separators[1].as_text();
  }
  style.sort_keys = arguments.flag_or(3, false);
  return style;
}

JinjaValue to_json(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"ensure_ascii", "indent", "separators", "sort_keys"});
  return JinjaValue::text(jinja_json(call.self, json_style(arguments, call.budget), call.budget));
}

/// Without '_' between digits and white space around, as int() and float() read it; nothing if a
/// '_' stands elsewhere.
std::optional<std::string> number_letters(const JinjaText& text) {
  const std::string stripped = strip(text, std::nullopt).bytes();
  const auto digit = [&](size_t i) {
    return i < stripped.size() && stripped[i] >= '0' && stripped[i] <= '9';
  };
  std::string letters;
  for (size_t i = 0; i < stripped.size(); ++i) {
    if (stripped[i] != '_') {
      letters += stripped[i];
    } else if (i == 0 || !digit(i - 1) || !digit(i + 1)) {
      return std::nullopt;
    }
  }
  return letters;
}

std::optional<int64_t> parse_int(const JinjaText& text, int64_t base) {
  std::optional<std::string> letters = number_letters(text);
  check(base >= 2 && base <= 36, "int: the base must be within 2 and 36, got ", base);
  if (!letters) {
    return std::nullopt;
  }
  const bool negative = letters->starts_with('-');
  std::string_view digits = *letters;
  digits.remove_prefix(negative || digits.starts_with('+') ? 1 : 0);
  const std::string_view prefix = base == 16 ? "0x" : base == 8 ? "0o" : base == 2 ? "0b" : "";
  if (!prefix.empty() && digits.starts_with(prefix)) {
    digits.remove_prefix(prefix.size());
  }
  if (digits.empty() || digits.starts_with('-')) {
    return std::nullopt;
  }
  const std::string signed_digits = (negative ? "-" : "") + std::string(digits);
  int64_t value = 0;
  const char* end = signed_digits.data() + signed_digits.size();
  const auto result = std::from_chars(signed_digits.data(), end, value, static_cast<int>(base));
  check(result.ec != std::errc::result_out_of_range, "an integer does not fit 64 bits");
  return result.ec == std::errc() && result.ptr == end ? std::optional(value) : std::nullopt;
}

std::optional<double> parse_real(const JinjaText& text) {
  std::optional<std::string> letters = number_letters(text);
  const bool hexadecimal = letters && letters->find_first_of("xX") != std::string::npos;
  if (!letters || letters->empty() || hexadecimal || letters->find('(') != std::string::npos) {
    return std::nullopt;  // strtod knows forms that Python does not
  }
  char* end = nullptr;
  const double value = std::strtod(letters->c_str(), &end);
  return end == letters->c_str() + letters->size() ? std::optional(value) : std::nullopt;
}

std::optional<int64_t> truncated(double value) {
  if (!std::isfinite(value)) {
    return std::nullopt;
  }
  check(std::fabs(value) < 9.2e18, "an integer does not fit 64 bits");
  return static_cast<int64_t>(value);
}

std::optional<int64_t> as_integer(const JinjaValue& value, int64_t base) {
  if (value.is(JinjaKind::Text)) {
    if (const auto integer = parse_int(value.as_text(), base)) {
      return integer;
    }
    const auto real = parse_real(value.as_text());
    return real ? truncated(*real) : std::nullopt;
  }
  if (value.is(JinjaKind::Float)) {
    return truncated(value.as_real());
  }
  return value.is_number() ? std::optional(value.as_int()) : std::nullopt;
}

JinjaValue to_int(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"default", "base"});
  check_defined(call.self);
  const auto value = as_integer(call.self, arguments.int_or(1, 10));
  return value ? JinjaValue::integer(*value, call.self.is_input())
               : arguments.value_or(0, JinjaValue::integer(0));
}

JinjaValue to_float(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"default"});
  check_defined(call.self);
  std::optional<double> value;
  if (call.self.is(JinjaKind::Text)) {
    value = parse_real(call.self.as_text());
  } else if (call.self.is_number()) {
    value = call.self.as_real();
  }
  return value ? JinjaValue::real(*value, call.self.is_input())
               : arguments.value_or(0, JinjaValue::real(0));
}

JinjaValue absolute(JinjaCall& call) {
  call.bind({});
  check_defined(call.self);
  check(call.self.is_number(), "abs does not work on ", call.self.type_name());
  return call.self.as_real() < 0 ? apply_unary(UnaryOperator::Minus, call.self)
                                 : apply_unary(UnaryOperator::Plus, call.self);
}

/// Python's round(): correctly rounded in decimal, exact halves to even.
double round_decimal(double value, int64_t digits) {
  if (!std::isfinite(value) || digits > 300) {
    return value;
  }
  if (digits < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-digits));
    return std::isfinite(scale) ? std::nearbyint(value / scale) * scale : 0;
  }
  char text[700];  // 309 digits before the point, 300 behind it
  std::snprintf(text, sizeof text, "%.*f", static_cast<int>(digits), value);
  return std::strtod(text, nullptr);
}

JinjaValue round_filter(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"precision", "method"});
  const std::string method = arguments.text_or(1, "common").bytes();
  const int64_t digits = arguments.int_or(0, 0);
  check(method == "common" || method == "ceil" || method == "floor",
        "round: the method must be common, ceil or floor, got '",
        method,
        "'");
  check_defined(call.self);
  check(call.self.is_number(), "round does not work on ", call.self.type_name());
  if (method != "common") {
    const double scale = std::pow(10.0, static_cast<double>(digits));
    const double scaled = call.self.as_real() * scale;
    return JinjaValue::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale,
                            call.self.is_input());
  }
  if (!call.self.is(JinjaKind::Float) && digits >= 0) {
    return apply_unary(UnaryOperator::Plus, call.self);
  }
  const double rounded = round_decimal(call.self.as_real(), digits);
  return call.self.is(JinjaKind::Float)
             ? JinjaValue::real(rounded, call.self.is_input())
             : JinjaValue::integer(truncated(rounded).value_or(0), call.self.is_input());
}

}  // namespace

const std::vector<NamedFilter>& jinja_text_filters() {
  static const std::vector<NamedFilter> kFilters = {
      {"abs", absolute},
      {"capitalize", text_filter<capitalize>},
      {"e", escape},
      {"escape", escape},
      {"float", to_float},
      {"indent", indent},
      {"int", to_int},
      {"lower", text_filter<lower>},
      {"replace", replace},
      {"round", round_filter},
      {"safe", safe},
      {"string", text_filter<same_text>},
      {"title", text_filter<word_title>},
      {"tojson", to_json},
      {"trim", trim},
      {"upper", text_filter<upper>},
      {"wordcount", wordcount},
  };
  return kFilters;
}

}  // namespace ssa
