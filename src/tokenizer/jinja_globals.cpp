#include "tokenizer/jinja_globals.h"

#include <array>
#include <ctime>

#include "base/text.h"
#include "tokenizer/jinja_call.h"
#include "tokenizer/jinja_format.h"

namespace ssa {
namespace {

constexpr int64_t kMaxRange = 100'000;  // as jinja2's sandbox

int64_t range_size(int64_t start, int64_t stop, int64_t step) {
  check(step != 0, "range: the step is 0");
  // In 128 bits, so that no bounds overflow.
  const __int128 distance =
      step > 0 ? static_cast<__int128>(stop) - start : static_cast<__int128>(start) - stop;
  const __int128 stride = step > 0 ? static_cast<__int128>(step) : -static_cast<__int128>(step);
  const __int128 n = distance <= 0 ? 0 : (distance + stride - 1) / stride;
  check(n <= kMaxRange, "a range has more than ", kMaxRange, " items");
  return static_cast<int64_t>(n);
}

JinjaValue range(JinjaCall& call) {
  check(call.named.empty() && !call.positional.empty(), "range takes one to three numbers");
  const BoundArguments arguments = call.bind({"start", "stop", "step"});
  const bool only_stop = !arguments.has(1);
  const int64_t start = only_stop ? 0 : arguments.int_or(0, 0);
  const int64_t stop = arguments.int_or(only_stop ? 0 : 1, 0);
  const int64_t step = arguments.int_or(2, 1);
  const int64_t n = range_size(start, stop, step);
  call.budget.spend(static_cast<size_t>(n) + 1);
  JinjaItems items;
  for (int64_t i = 0; i < n; ++i) {
    items.push_back(JinjaValue::integer(start + i * step));
  }
  return JinjaValue::sequence(SequenceKind::Range, std::move(items));
}

JinjaValue dict(JinjaCall& call) {
  JinjaMapping mapping;
  check(call.positional.size() <= 1, "dict takes at most one dict and names");
  if (!call.positional.empty()) {
    check(call.positional[0].is(JinjaKind::Mapping), "dict takes at most one dict and names");
    mapping = call.positional[0].as_mapping();
    call.budget.spend(mapping.entries.size());
  }
  for (const auto& [name, value] : call.named) {
    mapping_set(mapping, JinjaValue::literal(name), value, call.budget);
  }
  return JinjaValue::mapping(std::move(mapping));
}

JinjaValue raise_exception(JinjaCall& call) {
  fail(jinja_str(call.bind({"message"}, 1)[0], call.budget).bytes());
}

JinjaValue strftime_now(JinjaCall& call) {
  const JinjaText format = call.bind({"format"}, 1).text_or(0, "");
  check(format.size() <= 1000, "strftime_now: the format is longer than 1000 bytes");
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  // A space in front: strftime returns 0 for an empty result as it does for one that is too long.
  std::array<char, 8192> text{};
  const size_t length =
      std::strftime(text.data(), text.size(), (" " + format.bytes()).c_str(), &local);
  check(length > 0, "strftime_now: the result is too long");
  return JinjaValue::literal(replace_invalid_utf8(std::string_view(text.data() + 1, length - 1)));
}

}  // namespace

JinjaValue find_jinja_global(std::string_view name) {
  if (name == "range") return JinjaValue::function("range", range);
  if (name == "dict") return JinjaValue::function("dict", dict);
  if (name == "raise_exception") return JinjaValue::function("raise_exception", raise_exception);
  if (name == "strftime_now") return JinjaValue::function("strftime_now", strftime_now);
  return {};
}

}  // namespace ssa
