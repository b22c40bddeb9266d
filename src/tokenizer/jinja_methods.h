// Methods of strings, dicts and lists: {{ text.strip() }}.
#pragma once

#include <string_view>

#include "tokenizer/jinja_call.h"

namespace ssa {

/// value.name as a function bound to the value, or None if the type has no such method. What would
/// change a list or dict is undefined, as in jinja2's immutable sandbox.
JinjaValue find_jinja_method(const JinjaValue& value, const std::string& name);

}  // namespace ssa
