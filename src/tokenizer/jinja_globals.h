// The functions that every template can call: range, dict, raise_exception, strftime_now.
#pragma once

#include <string_view>

#include "tokenizer/jinja_value.h"

namespace ssa {

/// The function of that name, or None if there is none. (namespace() belongs to the evaluator,
/// which owns namespaces.)
JinjaValue find_jinja_global(std::string_view name);

}  // namespace ssa
