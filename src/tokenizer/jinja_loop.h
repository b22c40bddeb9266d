// The `loop` of a for statement: loop.index, loop.first, loop.cycle(...), ...
#pragma once

#include <string>

#include "tokenizer/jinja_value.h"

namespace ssa {

/// loop.name; undefined if there is no such attribute. `loop` must be of kind Loop.
JinjaValue get_loop_attribute(const JinjaValue& loop, const std::string& name);

}  // namespace ssa
