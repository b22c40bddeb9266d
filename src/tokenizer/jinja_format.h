// How values become text: Python's str(), repr() and json.dumps().
#pragma once

#include <optional>
#include <string>

#include "tokenizer/jinja_value.h"

namespace ssa {

/// Python's str(). Throws Error for values whose print in Python is an address (functions,
/// generators, ...).
JinjaText jinja_str(const JinjaValue& value, JinjaBudget& budget);
/// Python's repr(); throws as jinja_str does.
JinjaText jinja_repr(const JinjaValue& value, JinjaBudget& budget);

struct JsonStyle {
  std::optional<JinjaText> indent;  // what one level is indented by; nothing: all in one line
  JinjaText item_separator{", "};
  JinjaText key_separator{": "};
  bool ascii_only = false;
  bool sort_keys = false;
};

/// json.dumps as transformers' tojson filter calls it: keys in their order, no HTML escapes, by
/// default no ASCII escapes. Throws Error for values that JSON has no form for.
JinjaText jinja_json(const JinjaValue& value, const JsonStyle& style, JinjaBudget& budget);

/// Python's repr of a float: the shortest digits that read back as the same number.
std::string python_float(double value);

}  // namespace ssa
