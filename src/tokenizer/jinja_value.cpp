#include "tokenizer/jinja_value.h"

#include <algorithm>
#include <limits>

#include "base/text.h"

namespace ssa {
namespace {

int checked_depth(int deepest_inside) {
  check(deepest_inside < kMaxValueDepth, "a value is nested deeper than ", kMaxValueDepth);
  return deepest_inside + 1;
}

int deepest(const JinjaItems& items) {
  int depth = 0;
  for (const JinjaValue& item : items) {
    depth = std::max(depth, item.depth());
  }
  return depth;
}

JinjaValue number_from_json(const Json& json, bool is_input) {
  if (json.is_number_float()) {
    return JinjaValue::real(json.get<double>(), is_input);
  }
  if (json.is_number_unsigned()) {
    const auto number = json.get<uint64_t>();
    check(number <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()),
          "the integer ",
          number,
          " does not fit 64 bits");
    return JinjaValue::integer(static_cast<int64_t>(number), is_input);
  }
  return JinjaValue::integer(json.get<int64_t>(), is_input);
}

JinjaValue text_from_json(const std::string& bytes, bool is_input) {
  return JinjaValue::text(
      JinjaText(is_valid_utf8(bytes) ? bytes : replace_invalid_utf8(bytes), is_input));
}

JinjaValue nested_from_json(const Json& json, bool is_input, int depth) {
  check(depth < kMaxValueDepth, "a value is nested deeper than ", kMaxValueDepth);
  if (json.is_array()) {
    JinjaItems items;
    items.reserve(json.size());
    for (const Json& item : json) {
      items.push_back(nested_from_json(item, is_input, depth + 1));
    }
    return JinjaValue::list(std::move(items), is_input);
  }
  if (json.is_object()) {
    JinjaMapping mapping;
    mapping.entries.reserve(json.size());
    for (const auto& [key, value] : json.items()) {
      mapping.entries.emplace_back(text_from_json(key, is_input),
                                   nested_from_json(value, is_input, depth + 1));
    }
    return JinjaValue::mapping(std::move(mapping), is_input);
  }
  if (json.is_string()) return text_from_json(json.get_ref<const std::string&>(), is_input);
  if (json.is_boolean()) return JinjaValue::boolean(json.get<bool>(), is_input);
  if (json.is_number()) return number_from_json(json, is_input);
  check(json.is_null(), "a JSON value of type ", json.type_name(), " has no meaning in a template");
  return {};
}

}  // namespace

const JinjaValue* JinjaMapping::find(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name.is(JinjaKind::Text) && name.as_bytes() == key) {
      return &value;
    }
  }
  return nullptr;
}

const JinjaValue* JinjaNamespace::find(std::string_view name) const {
  for (const auto& [attribute, value] : attributes) {
    if (attribute == name) {
      return &value;
    }
  }
  return nullptr;
}

void JinjaNamespace::set(const std::string& name, JinjaValue value) {
  for (auto& [attribute, old] : attributes) {
    if (attribute == name) {
      old = std::move(value);
      return;
    }
  }
  attributes.emplace_back(name, std::move(value));
}

JinjaValue JinjaValue::undefined(std::string reason) {
  return {Undefined{std::make_shared<const std::string>(std::move(reason))}, false};
}

JinjaValue JinjaValue::text(JinjaText value) {
  return {std::make_shared<const JinjaText>(std::move(value)), false};
}

JinjaValue JinjaValue::markup(JinjaText value) {
  JinjaValue safe = text(std::move(value));
  safe.is_markup_ = true;
  return safe;
}

JinjaValue JinjaValue::sequence(SequenceKind kind, JinjaItems items, bool is_input) {
  auto object = std::make_shared<JinjaSequence>();
  object->depth = checked_depth(deepest(items));
  object->kind = kind;
  object->items = std::move(items);
  return {std::shared_ptr<const JinjaSequence>(std::move(object)), is_input};
}

JinjaValue JinjaValue::list(JinjaItems items, bool is_input) {
  return sequence(SequenceKind::List, std::move(items), is_input);
}

JinjaValue JinjaValue::mapping(JinjaMapping mapping, bool is_input) {
  int depth = 0;
  for (const auto& [key, value] : mapping.entries) {
    depth = std::max({depth, key.depth(), value.depth()});
  }
  mapping.depth = checked_depth(depth);
  return {std::make_shared<const JinjaMapping>(std::move(mapping)), is_input};
}

JinjaValue JinjaValue::iterator(JinjaItems items) {
  auto object = std::make_shared<JinjaIterator>();
  object->depth = checked_depth(deepest(items));
  object->items = std::move(items);
  return {std::move(object), false};
}

JinjaValue JinjaValue::function(std::string name,
                                std::function<JinjaValue(JinjaCall&)> body,
                                const JinjaValue* holds) {
  auto object = std::make_shared<JinjaFunction>();
  object->depth = checked_depth(holds == nullptr ? 0 : holds->depth());
  object->name = std::move(name);
  object->body = std::move(body);
  return {std::shared_ptr<const JinjaFunction>(std::move(object)), false};
}

JinjaValue JinjaValue::name_space(std::shared_ptr<JinjaNamespace> attributes) {
  return {std::move(attributes), false};
}

JinjaValue JinjaValue::loop(std::shared_ptr<JinjaLoop> state) {
  state->depth = checked_depth(deepest(*state->items));
  return {std::move(state), false};
}

JinjaValue JinjaValue::from_json(const Json& json, bool is_input) {
  return nested_from_json(json, is_input, 0);
}

bool JinjaValue::is_sequence(SequenceKind wanted) const {
  return is(JinjaKind::Sequence) && as_sequence().kind == wanted;
}

bool JinjaValue::is_number() const {
  return is(JinjaKind::Bool) || is(JinjaKind::Int) || is(JinjaKind::Float);
}

bool JinjaValue::is_input() const {
  return is(JinjaKind::Text) ? as_text().has_input() : is_input_;
}

int64_t JinjaValue::as_int() const {
  return is(JinjaKind::Bool) ? static_cast<int64_t>(as_bool()) : std::get<int64_t>(data_);
}

double JinjaValue::as_real() const {
  return is(JinjaKind::Float) ? std::get<double>(data_) : static_cast<double>(as_int());
}

bool JinjaValue::truth() const {
  switch (kind()) {
    case JinjaKind::Undefined:
    case JinjaKind::None:
      return false;
    case JinjaKind::Bool:
    case JinjaKind::Int:
    case JinjaKind::Float:
      return as_real() != 0;
    case JinjaKind::Text:
      return !as_text().empty();
    case JinjaKind::Sequence:
      return !as_sequence().items.empty();
    case JinjaKind::Mapping:
      return !as_mapping().entries.empty();
    case JinjaKind::Iterator:
    case JinjaKind::Namespace:
    case JinjaKind::Function:
    case JinjaKind::Loop:
      return true;
  }
  return true;
}

std::string_view JinjaValue::type_name() const {
  if (is(JinjaKind::Sequence)) {
    switch (as_sequence().kind) {
      case SequenceKind::List:
        return "list";
      case SequenceKind::Tuple:
        return "tuple";
      case SequenceKind::Range:
        return "range";
      case SequenceKind::KeysView:
        return "dict_keys";
      case SequenceKind::ValuesView:
        return "dict_values";
      case SequenceKind::ItemsView:
        return "dict_items";
    }
  }
  static constexpr std::string_view kNames[] = {"Undefined",
                                                "NoneType",
                                                "bool",
                                                "int",
                                                "float",
                                                "str",
                                                "list",
                                                "dict",
                                                "generator",
                                                "Namespace",
                                                "function",
                                                "LoopContext"};
  return kNames[data_.index()];
}

int JinjaValue::depth() const {
  switch (kind()) {
    case JinjaKind::Sequence:
      return as_sequence().depth;
    case JinjaKind::Mapping:
      return as_mapping().depth;
    case JinjaKind::Iterator:
      return as_iterator().depth;
    case JinjaKind::Function:
      return as_function().depth;
    case JinjaKind::Loop:
      return as_loop().depth;
    default:
      return 1;
  }
}

const void* JinjaValue::identity() const {
  switch (kind()) {
    case JinjaKind::Text:
      return &as_text();
    case JinjaKind::Sequence:
      return &as_sequence();
    case JinjaKind::Mapping:
      return &as_mapping();
    case JinjaKind::Iterator:
      return &as_iterator();
    case JinjaKind::Namespace:
      return &as_namespace();
    case JinjaKind::Function:
      return &as_function();
    case JinjaKind::Loop:
      return &as_loop();
    default:
      return nullptr;
  }
}

}  // namespace ssa
