// Filters: {{ value | name(arguments) }}.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/jinja_call.h"

namespace ssa {

/// Computes call.self | call.name(arguments).
using JinjaFilter = JinjaValue (*)(JinjaCall& call);

/// The filter of that name; throws Error that lists those known.
JinjaFilter find_jinja_filter(std::string_view name);

/// A row of a table of filters.
struct NamedFilter {
  std::string_view name;
  JinjaFilter filter;
};

/// The two halves of the table: what works on texts and numbers, and what works on lists and dicts.
const std::vector<NamedFilter>& jinja_text_filters();
const std::vector<NamedFilter>& jinja_list_filters();

}  // namespace ssa
