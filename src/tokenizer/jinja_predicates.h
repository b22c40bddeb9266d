// Tests: {% if value is name(arguments) %}. ("Predicate" here, so that nobody takes them for unit
// tests.)
#pragma once

#include <string_view>

#include "tokenizer/jinja_call.h"

namespace ssa {

/// Computes call.self is call.name(arguments).
using JinjaPredicate = bool (*)(JinjaCall& call);

/// The test of that name; throws Error that lists those known.
JinjaPredicate find_jinja_predicate(std::string_view name);

}  // namespace ssa
