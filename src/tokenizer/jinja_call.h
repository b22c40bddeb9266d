// How filters, tests, methods and functions receive their arguments.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/jinja_value.h"

namespace ssa {

/// Arguments in the order of the parameters, as JinjaCall::bind found them.
class BoundArguments {
 public:
  explicit BoundArguments(std::vector<std::optional<JinjaValue>> values)
      : values_(std::move(values)) {}

  bool has(size_t i) const { return values_[i].has_value(); }
  /// Requires has(i).
  const JinjaValue& operator[](size_t i) const { return *values_[i]; }
  /// The argument or, if it was not given, the fallback. Throw Error for other types.
  JinjaValue value_or(size_t i, JinjaValue fallback) const;
  JinjaText text_or(size_t i, std::string_view fallback) const;
  int64_t int_or(size_t i, int64_t fallback) const;
  bool flag_or(size_t i, bool fallback) const;
  /// True if the argument was not given or is none.
  bool absent(size_t i) const { return !has(i) || values_[i]->is(JinjaKind::None); }

 private:
  std::vector<std::optional<JinjaValue>> values_;
};

struct JinjaCall {
  std::string_view name;  // what is called, for messages: "filter 'trim'"
  JinjaBudget& budget;
  JinjaValue self;  // what a filter, test or method works on
  JinjaItems positional;
  std::vector<std::pair<std::string, JinjaValue>> named;

  /// Assigns the arguments to parameters; the first `n_required` must be there. Throws Error for
  /// missing, surplus, double and unknown ones.
  BoundArguments bind(std::initializer_list<std::string_view> parameters,
                      size_t n_required = 0) const;
  BoundArguments bind(const std::vector<std::string_view>& parameters, size_t n_required) const;
};

}  // namespace ssa
