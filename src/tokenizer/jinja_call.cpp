#include "tokenizer/jinja_call.h"

#include <algorithm>

namespace ssa {

JinjaValue BoundArguments::value_or(size_t i, JinjaValue fallback) const {
  return has(i) ? *values_[i] : std::move(fallback);
}

JinjaText BoundArguments::text_or(size_t i, std::string_view fallback) const {
  if (!has(i)) {
    return JinjaText(fallback);
  }
  check(values_[i]->is(JinjaKind::Text),
        "expected a string as argument, got ",
        values_[i]->type_name());
  return values_[i]->as_text();
}

int64_t BoundArguments::int_or(size_t i, int64_t fallback) const {
  if (!has(i)) {
    return fallback;
  }
  const JinjaValue& value = *values_[i];
  check(value.is(JinjaKind::Int) || value.is(JinjaKind::Bool),
        "expected an integer as argument, got ",
        value.type_name());
  return value.as_int();
}

bool BoundArguments::flag_or(size_t i, bool fallback) const {
  return has(i) ? values_[i]->truth() : fallback;
}

BoundArguments JinjaCall::bind(std::initializer_list<std::string_view> parameters,
                               size_t n_required) const {
  return bind(std::vector<std::string_view>(parameters), n_required);
}

BoundArguments JinjaCall::bind(const std::vector<std::string_view>& parameters,
                               size_t n_required) const {
  check(positional.size() <= parameters.size(),
        name,
        " takes at most ",
        parameters.size(),
        " arguments, got ",
        positional.size());
  std::vector<std::optional<JinjaValue>> values(parameters.size());
  std::copy(positional.begin(), positional.end(), values.begin());
  for (const auto& [parameter, value] : named) {
    const auto it = std::find(parameters.begin(), parameters.end(), parameter);
    check(it != parameters.end(), name, " has no parameter '", parameter, "'");
    std::optional<JinjaValue>& slot = values[static_cast<size_t>(it - parameters.begin())];
    check(!slot, name, " got '", parameter, "' twice");
    slot = value;
  }
  for (size_t i = 0; i < n_required; ++i) {
    check(values[i].has_value(), name, " needs the argument '", parameters[i], "'");
  }
  return BoundArguments(std::move(values));
}

}  // namespace ssa
