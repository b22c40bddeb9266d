// Operators, attributes and subscripts of the template engine: what Python's operators do with the
// values.
#pragma once

#include <optional>

#include "tokenizer/jinja_value.h"

namespace ssa {

enum class UnaryOperator { Not, Minus, Plus };
enum class BinaryOperator { Add, Subtract, Multiply, Divide, FloorDivide, Modulo, Power };
enum class CompareOperator { Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual, In, NotIn };

/// Each throws Error for operands that Python refuses, for undefined ones, and for integers beyond
/// 64 bits.
JinjaValue apply_unary(UnaryOperator op, const JinjaValue& operand);
JinjaValue apply_binary(BinaryOperator op,
                        const JinjaValue& a,
                        const JinjaValue& b,
                        JinjaBudget& budget);
bool apply_compare(CompareOperator op,
                   const JinjaValue& a,
                   const JinjaValue& b,
                   JinjaBudget& budget);

/// value.name: a method, a loop's or namespace's attribute, or else the dict's entry; undefined if
/// there is none. Throws Error if the value itself is undefined.
JinjaValue get_attribute(const JinjaValue& value, const std::string& name, JinjaBudget& budget);
/// value[key]: as get_attribute, but a dict's entry comes before a method.
JinjaValue get_item(const JinjaValue& value, const JinjaValue& key, JinjaBudget& budget);

struct SliceBounds {
  std::optional<int64_t> start, stop, step;
};
/// value[start:stop:step]; throws Error for values that cannot be sliced and a step of 0.
JinjaValue get_slice(const JinjaValue& value, const SliceBounds& bounds, JinjaBudget& budget);

}  // namespace ssa
