#include "tokenizer/jinja_operators.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tokenizer/jinja_loop.h"
#include "tokenizer/jinja_methods.h"
#include "tokenizer/jinja_text_algorithms.h"

namespace ssa {
namespace {

std::string_view symbol(BinaryOperator op) {
  static constexpr std::string_view kSymbols[] = {"+", "-", "*", "/", "//", "%", "**"};
  return kSymbols[static_cast<size_t>(op)];
}

[[noreturn]] void fail_operands(BinaryOperator op, const JinjaValue& a, const JinjaValue& b) {
  fail("'", symbol(op), "' does not work on ", a.type_name(), " and ", b.type_name());
}

void check_defined(const JinjaValue& value) {
  if (value.is(JinjaKind::Undefined)) {
    fail(value.undefined_reason());
  }
}

void check_overflow(bool overflow) {
  check(!overflow, "an integer does not fit 64 bits");
}

int64_t floor_divide(int64_t a, int64_t b) {
  check(b != 0, "division by zero");
  check_overflow(b == -1 && a == std::numeric_limits<int64_t>::min());
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

int64_t floor_modulo(int64_t a, int64_t b) {
  check(b != 0, "division by zero");
  if (b == -1) {
    return 0;
  }
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

int64_t integer_power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if (exponent & 1) {
      check_overflow(__builtin_mul_overflow(result, base, &result));
    }
    exponent >>= 1;
    if (exponent > 0) {
      check_overflow(__builtin_mul_overflow(base, base, &base));
    }
  }
  return result;
}

int64_t integer_operation(BinaryOperator op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case BinaryOperator::Add:
      check_overflow(__builtin_add_overflow(a, b, &result));
      return result;
    case BinaryOperator::Subtract:
      check_overflow(__builtin_sub_overflow(a, b, &result));
      return result;
    case BinaryOperator::Multiply:
      check_overflow(__builtin_mul_overflow(a, b, &result));
      return result;
    case BinaryOperator::FloorDivide:
      return floor_divide(a, b);
    case BinaryOperator::Modulo:
      return floor_modulo(a, b);
    default:
      return integer_power(a, b);
  }
}

double real_operation(BinaryOperator op, double a, double b) {
  const bool divides = op == BinaryOperator::Divide || op == BinaryOperator::FloorDivide ||
                       op == BinaryOperator::Modulo;
  check(!divides || b != 0, "division by zero");
  switch (op) {
    case BinaryOperator::Add:
      return a + b;
    case BinaryOperator::Subtract:
      return a - b;
    case BinaryOperator::Multiply:
      return a * b;
    case BinaryOperator::Divide:
      return a / b;
    case BinaryOperator::FloorDivide:
      return std::floor(a / b);
    case BinaryOperator::Modulo: {
      const double rest = std::fmod(a, b);
      return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
    }
    case BinaryOperator::Power:
      break;
  }
  check(a != 0 || b >= 0, "division by zero");
  return std::pow(a, b);
}

JinjaValue number_operation(BinaryOperator op, const JinjaValue& a, const JinjaValue& b) {
  const bool is_input = a.is_input() || b.is_input();
  const bool real = a.is(JinjaKind::Float) || b.is(JinjaKind::Float) ||
                    op == BinaryOperator::Divide || (op == BinaryOperator::Power && b.as_int() < 0);
  return real ? JinjaValue::real(real_operation(op, a.as_real(), b.as_real()), is_input)
              : JinjaValue::integer(integer_operation(op, a.as_int(), b.as_int()), is_input);
}

JinjaValue add_sequences(const JinjaValue& a, const JinjaValue& b, JinjaBudget& budget) {
  const JinjaSequence& left = a.as_sequence();
  const JinjaSequence& right = b.as_sequence();
  const bool fits = left.kind == right.kind &&
                    (left.kind == SequenceKind::List || left.kind == SequenceKind::Tuple);
  if (!fits) {
    fail_operands(BinaryOperator::Add, a, b);
  }
  budget.spend(1 + left.items.size() + right.items.size());
  JinjaItems items = left.items;
  items.insert(items.end(), right.items.begin(), right.items.end());
  return JinjaValue::sequence(left.kind, std::move(items), a.is_input() && b.is_input());
}

JinjaValue add_texts(const JinjaValue& a, const JinjaValue& b, JinjaBudget& budget) {
  const bool markup = a.is_markup() || b.is_markup();
  budget.spend_bytes(a.as_text().size() + b.as_text().size());
  JinjaText sum = markup && !a.is_markup() ? html_escaped(a.as_text()) : a.as_text();
  sum.append(markup && !b.is_markup() ? html_escaped(b.as_text()) : b.as_text());
  return markup ? JinjaValue::markup(std::move(sum)) : JinjaValue::text(std::move(sum));
}

/// text * count or list * count, in either order.
JinjaValue repeat(const JinjaValue& a, const JinjaValue& b, JinjaBudget& budget) {
  const bool count_first = a.is_number();
  const JinjaValue& count = count_first ? a : b;
  const JinjaValue& value = count_first ? b : a;
  const bool fits = count.is_number() && !count.is(JinjaKind::Float) &&
                    (value.is(JinjaKind::Text) || value.is_sequence(SequenceKind::List) ||
                     value.is_sequence(SequenceKind::Tuple));
  if (!fits) {
    fail_operands(BinaryOperator::Multiply, a, b);
  }
  if (value.is(JinjaKind::Text)) {
    return JinjaValue::text(repeated(value.as_text(), count.as_int(), budget));
  }
  const JinjaSequence& sequence = value.as_sequence();
  JinjaItems items;
  for (int64_t i = 0; i < count.as_int() && !sequence.items.empty(); ++i) {
    budget.spend(sequence.items.size());
    items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  return JinjaValue::sequence(sequence.kind, std::move(items), value.is_input());
}

bool contains(const JinjaValue& container, const JinjaValue& item, JinjaBudget& budget) {
  if (container.is(JinjaKind::Text)) {
    check(item.is(JinjaKind::Text), "'in' a string needs a string, got ", item.type_name());
    budget.spend_bytes(container.as_text().size());
    return find_bytes(container.as_bytes(), item.as_bytes()) != std::string_view::npos;
  }
  if (container.is(JinjaKind::Mapping)) {
    return mapping_find(container.as_mapping(), item, budget) != nullptr;
  }
  const auto equals = [&](const JinjaValue& other) { return jinja_equals(other, item, budget); };
  if (container.is(JinjaKind::Sequence)) {
    const JinjaItems& items = container.as_sequence().items;
    return std::any_of(items.begin(), items.end(), equals);
  }
  const JinjaItems items = jinja_items(container, budget);
  return std::any_of(items.begin(), items.end(), equals);
}

/// The position that Python's value[index] means, if there is one.
std::optional<size_t> resolve_index(int64_t index, size_t length) {
  const auto n = static_cast<int64_t>(length);
  if (index < -n || index >= n) {
    return std::nullopt;
  }
  return static_cast<size_t>(index < 0 ? index + n : index);
}

JinjaValue get_element(const JinjaValue& value, int64_t index, JinjaBudget& budget) {
  std::optional<size_t> at;
  if (value.is(JinjaKind::Text)) {
    budget.spend_bytes(8 * value.as_text().size());
    const std::vector<size_t> offsets = character_offsets(value.as_bytes());
    at = resolve_index(index, offsets.size() - 1);
    if (at) {
      return JinjaValue::text(value.as_text().slice(offsets[*at], offsets[*at + 1]));
    }
  } else {
    const JinjaItems& items = value.as_sequence().items;
    at = resolve_index(index, items.size());
    if (at) {
      return items[*at];
    }
  }
  return JinjaValue::undefined(concat(value.type_name(), " object has no element ", index));
}

bool has_elements(const JinjaValue& value) {
  return value.is(JinjaKind::Text) || value.is_sequence(SequenceKind::List) ||
         value.is_sequence(SequenceKind::Tuple) || value.is_sequence(SequenceKind::Range);
}

/// The positions that Python's slice visits, in its order.
std::vector<size_t> slice_positions(const SliceBounds& bounds, size_t length) {
  const int64_t step = bounds.step.value_or(1);
  check(step != 0, "the step of a slice is 0");
  const auto n = static_cast<int64_t>(length);
  const bool down = step < 0;
  const auto clamp = [&](int64_t position) {
    const int64_t from_start = position < 0 ? position + n : position;
    return std::clamp<int64_t>(from_start, down ? -1 : 0, down ? n - 1 : n);
  };
  const int64_t start = bounds.start ? clamp(*bounds.start) : down ? n - 1 : 0;
  const int64_t stop = bounds.stop ? clamp(*bounds.stop) : down ? -1 : n;
  std::vector<size_t> positions;
  // A step beyond the length would overflow, and visits one position at most.
  const int64_t stride = std::clamp<int64_t>(step, -n - 1, n + 1);
  for (int64_t i = start; down ? i > stop : i < stop; i += stride) {
    positions.push_back(static_cast<size_t>(i));
  }
  return positions;
}

JinjaValue slice_text(const JinjaText& text, const SliceBounds& bounds, JinjaBudget& budget) {
  budget.spend_bytes(16 * text.size());  // offsets and positions are 8 bytes each
  const std::vector<size_t> offsets = character_offsets(text.bytes());
  JinjaText out;
  const std::vector<size_t> positions = slice_positions(bounds, offsets.size() - 1);
  if (!positions.empty() && bounds.step.value_or(1) == 1) {
    out = text.slice(offsets[positions.front()], offsets[positions.back() + 1]);
  } else {
    for (const size_t i : positions) {
      out.append(text, offsets[i], offsets[i + 1]);
    }
  }
  return JinjaValue::text(std::move(out));
}

}  // namespace

JinjaValue apply_unary(UnaryOperator op, const JinjaValue& operand) {
  if (op == UnaryOperator::Not) {
    return JinjaValue::boolean(!operand.truth());
  }
  check_defined(operand);
  check(operand.is_number(), "a sign does not work on ", operand.type_name());
  if (operand.is(JinjaKind::Float)) {
    const double value = operand.as_real();
    return JinjaValue::real(op == UnaryOperator::Minus ? -value : value, operand.is_input());
  }
  const int64_t value = operand.as_int();
  return op == UnaryOperator::Minus
             ? number_operation(BinaryOperator::Subtract, JinjaValue::integer(0), operand)
             : JinjaValue::integer(value, operand.is_input());
}

JinjaValue apply_binary(BinaryOperator op,
                        const JinjaValue& a,
                        const JinjaValue& b,
                        JinjaBudget& budget) {
  check_defined(a);
  check_defined(b);
  if (a.is_number() && b.is_number()) {
    return number_operation(op, a, b);
  }
  if (op == BinaryOperator::Add && a.is(JinjaKind::Text) && b.is(JinjaKind::Text)) {
    return add_texts(a, b, budget);
  }
  if (op == BinaryOperator::Add && a.is(JinjaKind::Sequence) && b.is(JinjaKind::Sequence)) {
    return add_sequences(a, b, budget);
  }
  if (op == BinaryOperator::Multiply) {
    return repeat(a, b, budget);
  }
  fail_operands(op, a, b);
}

bool apply_compare(CompareOperator op,
                   const JinjaValue& a,
                   const JinjaValue& b,
                   JinjaBudget& budget) {
  switch (op) {
    case CompareOperator::Equal:
      return jinja_equals(a, b, budget);
    case CompareOperator::NotEqual:
      return !jinja_equals(a, b, budget);
    case CompareOperator::Less:
      return jinja_less(a, b, budget);
    case CompareOperator::LessEqual:
      return jinja_less(a, b, budget) || jinja_equals(a, b, budget);
    case CompareOperator::Greater:
      return jinja_less(b, a, budget);
    case CompareOperator::GreaterEqual:
      return jinja_less(b, a, budget) || jinja_equals(a, b, budget);
    case CompareOperator::In:
      return contains(b, a, budget);
    case CompareOperator::NotIn:
      return !contains(b, a, budget);
  }
  return false;
}

JinjaValue get_attribute(const JinjaValue& value, const std::string& name, JinjaBudget& budget) {
  check_defined(value);
  JinjaValue method = find_jinja_method(value, name);
  if (!method.is(JinjaKind::None)) {
    return method;
  }
  const JinjaValue* found = nullptr;
  if (value.is(JinjaKind::Mapping)) {
    budget.spend(1 + value.as_mapping().entries.size() / 16);
    found = value.as_mapping().find(name);
  } else if (value.is(JinjaKind::Namespace)) {
    budget.spend(1 + value.as_namespace().attributes.size() / 16);
    found = value.as_namespace().find(name);
  } else if (value.is(JinjaKind::Loop)) {
    return get_loop_attribute(value, name);
  }
  if (found != nullptr) {
    return *found;
  }
  return JinjaValue::undefined(
      concat("'", value.type_name(), " object' has no attribute '", name, "'"));
}

JinjaValue get_item(const JinjaValue& value, const JinjaValue& key, JinjaBudget& budget) {
  check_defined(value);
  if (value.is(JinjaKind::Mapping)) {
    if (const JinjaValue* found = mapping_find(value.as_mapping(), key, budget)) {
      return *found;
    }
  } else if (has_elements(value) && (key.is(JinjaKind::Int) || key.is(JinjaKind::Bool))) {
    return get_element(value, key.as_int(), budget);
  }
  if (key.is(JinjaKind::Text)) {
    return get_attribute(value, key.as_bytes(), budget);
  }
  return JinjaValue::undefined(
      concat("'", value.type_name(), " object' has no item of type ", key.type_name()));
}

JinjaValue get_slice(const JinjaValue& value, const SliceBounds& bounds, JinjaBudget& budget) {
  check_defined(value);
  check(has_elements(value), "a value of type ", value.type_name(), " cannot be sliced");
  if (value.is(JinjaKind::Text)) {
    return slice_text(value.as_text(), bounds, budget);
  }
  const JinjaSequence& sequence = value.as_sequence();
  budget.spend(1 + sequence.items.size());
  JinjaItems items;
  for (const size_t i : slice_positions(bounds, sequence.items.size())) {
    items.push_back(sequence.items[i]);
  }
  return JinjaValue::sequence(sequence.kind, std::move(items), value.is_input());
}

}  // namespace ssa
