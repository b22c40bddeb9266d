#include "tokenizer/jinja_predicates.h"

#include <algorithm>

#include "tokenizer/jinja_characters.h"
#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_operators.h"

namespace ssa {
namespace {

template <JinjaKind kKind>
bool is_kind(JinjaCall& call) {
  call.bind({});
  return call.self.is(kKind);
}

bool is_defined(JinjaCall& call) {
  call.bind({});
  return !call.self.is(JinjaKind::Undefined);
}

template <bool kValue>
bool is_constant(JinjaCall& call) {
  call.bind({});
  return call.self.is(JinjaKind::Bool) && call.self.as_bool() == kValue;
}

bool is_number_test(JinjaCall& call) {
  call.bind({});
  return call.self.is_number();
}

bool is_iterable(JinjaCall& call) {
  call.bind({});
  switch (call.self.kind()) {
    case JinjaKind::Undefined:
    case JinjaKind::Text:
    case JinjaKind::Sequence:
    case JinjaKind::Mapping:
    case JinjaKind::Iterator:
    case JinjaKind::Loop:
      return true;
    default:
      return false;
  }
}

/// Has a length and can be subscripted; so can an undefined value, as far as jinja2 looks.
bool is_sequence_test(JinjaCall& call) {
  call.bind({});
  const JinjaValue& value = call.self;
  if (value.is(JinjaKind::Sequence)) {
    const SequenceKind kind = value.as_sequence().kind;
    return kind == SequenceKind::List || kind == SequenceKind::Tuple || kind == SequenceKind::Range;
  }
  return value.is(JinjaKind::Text) || value.is(JinjaKind::Mapping) ||
         value.is(JinjaKind::Undefined);
}

bool is_callable(JinjaCall& call) {
  call.bind({});
  return call.self.is(JinjaKind::Function) || call.self.is(JinjaKind::Undefined);
}

bool is_divisible(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"num"}, 1);
  const JinjaValue rest =
      apply_binary(BinaryOperator::Modulo, call.self, arguments[0], call.budget);
  return rest.is_number() && rest.as_real() == 0;
}

template <bool kOdd>
bool is_odd_or_even(JinjaCall& call) {
  call.bind({});
  const JinjaValue rest =
      apply_binary(BinaryOperator::Modulo, call.self, JinjaValue::integer(2), call.budget);
  return rest.as_real() == (kOdd ? 1 : 0);
}

template <CompareOperator kOperator>
bool compares(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"other"}, 1);
  return apply_compare(kOperator, call.self, arguments[0], call.budget);
}

/// Python's `is`; constants and small values are the same object there, so they compare by value.
bool is_same(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"other"}, 1);
  const JinjaValue& other = arguments[0];
  if (call.self.kind() != other.kind()) {
    return false;
  }
  const bool by_value = call.self.identity() == nullptr || call.self.is(JinjaKind::Text);
  return by_value ? jinja_equals(call.self, other, call.budget)
                  : call.self.identity() == other.identity();
}

/// All cased letters fit, and there is one.
template <bool (*kFits)(char32_t)>
bool has_case(JinjaCall& call) {
  call.bind({});
  bool any = false;
  bool all = true;
  jinja_str(call.self, call.budget).for_each_character([&](char32_t c, std::string_view, bool) {
    any = any || is_cased(c);
    all = all && (!is_cased(c) || kFits(c));
  });
  return any && all;
}

template <class Find>
bool is_known(JinjaCall& call, Find find) {
  call.bind({});
  try {
    return call.self.is(JinjaKind::Text) && find(call.self.as_bytes()) != nullptr;
  } catch (const Error&) {
    return false;
  }
}

bool is_filter(JinjaCall& call) {
  return is_known(call, find_jinja_filter);
}
bool is_test(JinjaCall& call) {
  return is_known(call, find_jinja_predicate);
}

struct NamedPredicate {
  std::string_view name;
  JinjaPredicate predicate;
};

constexpr NamedPredicate kPredicates[] = {
    {"!=", compares<CompareOperator::NotEqual>},
    {"<", compares<CompareOperator::Less>},
    {"<=", compares<CompareOperator::LessEqual>},
    {"==", compares<CompareOperator::Equal>},
    {">", compares<CompareOperator::Greater>},
    {">=", compares<CompareOperator::GreaterEqual>},
    {"boolean", is_kind<JinjaKind::Bool>},
    {"callable", is_callable},
    {"defined", is_defined},
    {"divisibleby", is_divisible},
    {"eq", compares<CompareOperator::Equal>},
    {"equalto", compares<CompareOperator::Equal>},
    {"even", is_odd_or_even<false>},
    {"false", is_constant<false>},
    {"filter", is_filter},
    {"float", is_kind<JinjaKind::Float>},
    {"ge", compares<CompareOperator::GreaterEqual>},
    {"greaterthan", compares<CompareOperator::Greater>},
    {"gt", compares<CompareOperator::Greater>},
    {"in", compares<CompareOperator::In>},
    {"integer", is_kind<JinjaKind::Int>},
    {"iterable", is_iterable},
    {"le", compares<CompareOperator::LessEqual>},
    {"lessthan", compares<CompareOperator::Less>},
    {"lower", has_case<is_lower_case>},
    {"lt", compares<CompareOperator::Less>},
    {"mapping", is_kind<JinjaKind::Mapping>},
    {"ne", compares<CompareOperator::NotEqual>},
    {"none", is_kind<JinjaKind::None>},
    {"number", is_number_test},
    {"odd", is_odd_or_even<true>},
    {"sameas", is_same},
    {"sequence", is_sequence_test},
    {"string", is_kind<JinjaKind::Text>},
    {"test", is_test},
    {"true", is_constant<true>},
    {"undefined", is_kind<JinjaKind::Undefined>},
    {"upper", has_case<is_upper_case>},
};

}  // namespace

JinjaPredicate find_jinja_predicate(std::string_view name) {
  const auto* it = std::find_if(std::begin(kPredicates),
                                std::end(kPredicates),
                                [&](const NamedPredicate& row) { return row.name == name; });
  if (it != std::end(kPredicates)) {
    return it->predicate;
  }
  std::string known;
  for (const NamedPredicate& row : kPredicates) {
    known += concat(known.empty() ? "" : ", ", row.name);
  }
  fail("test '", name, "' is not supported (supported: ", known, ")");
}

}  // namespace ssa
