// Parses a template's source into its syntax tree.
#pragma once

#include <string_view>

#include "tokenizer/jinja_ast.h"

namespace ssa {

/// `source` must be well-formed UTF-8. Throws Error "chat template line N: ..." for what is wrong
/// or not supported.
JinjaBlock parse_jinja(std::string_view source);

}  // namespace ssa
