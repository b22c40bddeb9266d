#include "tokenizer/jinja_loop.h"

#include <algorithm>

#include "tokenizer/jinja_call.h"

namespace ssa {
namespace {

JinjaValue cycle(JinjaCall& call) {
  check(!call.positional.empty(), "loop.cycle needs an argument");
  return call.positional[call.self.as_loop().index0 % call.positional.size()];
}

/// True unless the arguments are those of the call before.
JinjaValue changed(JinjaCall& call) {
  JinjaLoop& loop = call.self.as_loop();
  const bool same =
      loop.changed_called && std::equal(loop.last_changed.begin(),
                                        loop.last_changed.end(),
                                        call.positional.begin(),
                                        call.positional.end(),
                                        [&](const JinjaValue& a, const JinjaValue& b) {
                                          return jinja_equals(a, b, call.budget);
                                        });
  loop.changed_called = true;
  if (!same) {
    loop.last_changed = call.positional;
  }
  return JinjaValue::boolean(!same);
}

JinjaValue bound(const JinjaValue& loop, std::string name, JinjaValue (*method)(JinjaCall&)) {
  const auto body = [loop, method](JinjaCall& call) {
    call.self = loop;
    return method(call);
  };
  return JinjaValue::function(std::move(name), body, &loop);
}

JinjaValue number(size_t value) {
  return JinjaValue::integer(static_cast<int64_t>(value));
}

}  // namespace

JinjaValue get_loop_attribute(const JinjaValue& value, const std::string& name) {
  const JinjaLoop& loop = value.as_loop();
  const JinjaItems& items = *loop.items;
  const size_t i = loop.index0;
  if (name == "index") return number(i + 1);
  if (name == "index0") return number(i);
  if (name == "revindex") return number(items.size() - i);
  if (name == "revindex0") return number(items.size() - i - 1);
  if (name == "first") return JinjaValue::boolean(i == 0);
  if (name == "last") return JinjaValue::boolean(i + 1 == items.size());
  if (name == "length") return number(items.size());
  if (name == "depth")
    return JinjaValue::integer(1);  // counts recursive loops, which there are none of
  if (name == "depth0") return JinjaValue::integer(0);
  if (name == "previtem")
    return i > 0 ? items[i - 1] : JinjaValue::undefined("there is no previous item");
  if (name == "nextitem") {
    return i + 1 < items.size() ? items[i + 1] : JinjaValue::undefined("there is no next item");
  }
  if (name == "cycle") return bound(value, "loop.cycle", cycle);
  if (name == "changed") return bound(value, "loop.changed", changed);
  return JinjaValue::undefined("'loop' has no attribute '" + name + "'");
}

}  // namespace ssa
