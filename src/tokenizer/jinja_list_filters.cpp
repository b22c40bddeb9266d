// Filters that work on lists and dicts.
#include <algorithm>
#include <numeric>

#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_format.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_predicates.h"
#include "tokenizer/jinja_text_algorithms.h"

namespace ssa {
namespace {

/// "a.b.0" as the keys to look up one behind the other; a whole number is an index.
JinjaItems attribute_path(const JinjaValue& attribute, JinjaBudget& budget) {
  if (!attribute.is(JinjaKind::Text)) {
    return {attribute};
  }
  JinjaItems path;
  for (const JinjaText& part : split_at(attribute.as_text(), ".", -1, budget)) {
    const std::string& bytes = part.bytes();
    const bool index = !bytes.empty() && bytes.size() < 10 &&
                       bytes.find_first_not_of("0123456789") == std::string::npos;
    path.push_back(index ? JinjaValue::integer(std::stoi(bytes)) : JinjaValue::text(part));
  }
  return path;
}

JinjaValue follow_path(JinjaValue value, const JinjaItems& path, JinjaBudget& budget) {
  for (const JinjaValue& key : path) {
    value = get_item(value, key, budget);
  }
  return value;
}

/// Applies the filter or test that the first argument of map, select, ... names to single values.
JinjaCall call_on(const JinjaCall& outer, size_t n_used, const JinjaValue& value) {
  JinjaCall call{outer.name, outer.budget, value, {}, outer.named};
  call.positional.assign(outer.positional.begin() + static_cast<ptrdiff_t>(n_used),
                         outer.positional.end());
  return call;
}

const std::string& name_argument(const JinjaCall& call, size_t i) {
  check(call.positional.size() > i, call.name, " needs a name as argument");
  check(call.positional[i].is(JinjaKind::Text),
        call.name,
        " needs a name as argument, got ",
        call.positional[i].type_name());
  return call.positional[i].as_bytes();
}

JinjaValue map_attribute(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"attribute", "default"}, 1);
  const JinjaItems path = attribute_path(arguments[0], call.budget);
  JinjaItems out;
  for (const JinjaValue& item : jinja_items(call.self, call.budget)) {
    JinjaValue value = item;
    for (const JinjaValue& key : path) {
      value = get_item(value, key, call.budget);
      if (value.is(JinjaKind::Undefined) && !arguments.absent(1)) {
        value = arguments[1];
      }
    }
    out.push_back(std::move(value));
  }
  return JinjaValue::iterator(std::move(out));
}

JinjaValue map(JinjaCall& call) {
  const JinjaBudget::Level level(call.budget);  // map('map', ...) recurses
  if (call.positional.empty() && !call.named.empty()) {
    return map_attribute(call);
  }
  const JinjaFilter filter = find_jinja_filter(name_argument(call, 0));
  JinjaItems out;
  for (const JinjaValue& item : jinja_items(call.self, call.budget)) {
    JinjaCall inner = call_on(call, 1, item);
    call.budget.spend(1 + inner.positional.size());
    out.push_back(filter(inner));
  }
  return JinjaValue::iterator(std::move(out));
}

/// select, reject, selectattr and rejectattr: the items, or the items whose attribute, pass a test
/// or are true.
template <bool kWanted, bool kByAttribute>
JinjaValue select(JinjaCall& call) {
  if (!call.self.truth()) {
    return JinjaValue::iterator({});  // even of none, as in jinja2
  }
  const size_t n_used = kByAttribute ? 1 : 0;
  JinjaItems path;
  if (kByAttribute) {
    check(!call.positional.empty(), call.name, " needs the name of an attribute");
    path = attribute_path(call.positional[0], call.budget);
  }
  const bool tests = call.positional.size() > n_used;
  const JinjaPredicate predicate =
      tests ? find_jinja_predicate(name_argument(call, n_used)) : nullptr;
  JinjaItems out;
  for (const JinjaValue& item : jinja_items(call.self, call.budget)) {
    const JinjaValue value = follow_path(item, path, call.budget);
    bool passes = value.truth();
    if (tests) {
      JinjaCall inner = call_on(call, n_used + 1, value);
      call.budget.spend(1 + inner.positional.size());
      passes = predicate(inner);
    }
    if (passes == kWanted) {
      out.push_back(item);
    }
  }
  return JinjaValue::iterator(std::move(out));
}

JinjaValue default_filter(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"default_value", "boolean"});
  const bool missing =
      call.self.is(JinjaKind::Undefined) || (arguments.flag_or(1, false) && !call.self.truth());
  return missing ? arguments.value_or(0, JinjaValue::literal("")) : call.self;
}

JinjaValue length(JinjaCall& call) {
  call.bind({});
  return JinjaValue::integer(static_cast<int64_t>(jinja_length(call.self, call.budget)));
}

JinjaValue list(JinjaCall& call) {
  call.bind({});
  return JinjaValue::list(jinja_items(call.self, call.budget), call.self.is_input());
}

JinjaValue first(JinjaCall& call) {
  call.bind({});
  if (call.self.is(JinjaKind::Iterator)) {
    JinjaIterator& iterator = call.self.as_iterator();
    return iterator.next < iterator.items.size()
               ? iterator.items[iterator.next++]
               : JinjaValue::undefined("no first item, the sequence is empty");
  }
  const JinjaItems items = jinja_items(call.self, call.budget);
  return items.empty() ? JinjaValue::undefined("no first item, the sequence is empty")
                       : items.front();
}

JinjaValue last(JinjaCall& call) {
  call.bind({});
  check(!call.self.is(JinjaKind::Iterator), "last does not work on a generator");
  const JinjaItems items = jinja_items(call.self, call.budget);
  return items.empty() ? JinjaValue::undefined("no last item, the sequence is empty")
                       : items.back();
}

JinjaValue join(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"d", "attribute"});
  const JinjaText separator = arguments.has(0) ? jinja_str(arguments[0], call.budget) : JinjaText();
  const JinjaItems path =
      arguments.absent(1) ? JinjaItems() : attribute_path(arguments[1], call.budget);
  JinjaText out;
  bool first_item = true;
  for (const JinjaValue& item : jinja_items(call.self, call.budget)) {
    call.budget.spend_bytes(separator.size());
    out.append(first_item ? JinjaText() : separator);
    out.append(jinja_str(follow_path(item, path, call.budget), call.budget));
    first_item = false;
  }
  return JinjaValue::text(std::move(out));
}

JinjaValue reverse(JinjaCall& call) {
  call.bind({});
  if (call.self.is(JinjaKind::Text)) {
    return JinjaValue::text(reversed(call.self.as_text()));
  }
  JinjaItems items = jinja_items(call.self, call.budget);
  std::reverse(items.begin(), items.end());
  return call.self.is(JinjaKind::Iterator) ? JinjaValue::list(std::move(items))
                                           : JinjaValue::iterator(std::move(items));
}

JinjaValue items(JinjaCall& call) {
  call.bind({});
  JinjaItems pairs;
  if (!call.self.is(JinjaKind::Undefined)) {
    check(call.self.is(JinjaKind::Mapping),
          "items works on a dict only, got ",
          call.self.type_name());
    call.budget.spend(4 * call.self.as_mapping().entries.size());
    for (const auto& [key, value] : call.self.as_mapping().entries) {
      pairs.push_back(
          JinjaValue::sequence(SequenceKind::Tuple, {key, value}, call.self.is_input()));
    }
  }
  return JinjaValue::iterator(std::move(pairs));
}

/// What sorting compares: texts without regard to case unless asked.
JinjaValue sort_key(const JinjaValue& value, bool case_sensitive, JinjaBudget& budget) {
  if (case_sensitive || !value.is(JinjaKind::Text)) {
    return value;
  }
  budget.spend_bytes(value.as_text().size());
  return JinjaValue::text(lower(value.as_text()));
}

struct KeyedItem {
  JinjaItems keys;
  JinjaValue item;
};

bool keys_less(const JinjaItems& a, const JinjaItems& b, JinjaBudget& budget) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (!jinja_equals(a[i], b[i], budget)) {
      return jinja_less(a[i], b[i], budget);
    }
  }
  return false;
}

JinjaItems sorted(std::vector<KeyedItem> keyed, bool descending, JinjaBudget& budget) {
  std::stable_sort(keyed.begin(), keyed.end(), [&](const KeyedItem& a, const KeyedItem& b) {
    return descending ? keys_less(b.keys, a.keys, budget) : keys_less(a.keys, b.keys, budget);
  });
  JinjaItems out;
  for (KeyedItem& entry : keyed) {
    out.push_back(std::move(entry.item));
  }
  return out;
}

/// Every item with what it is compared by: itself, or its attributes ("a,b.c").
std::vector<KeyedItem> keyed_items(JinjaCall& call,
                                   const JinjaValue* attribute,
                                   bool case_sensitive) {
  std::vector<JinjaItems> paths;
  if (attribute == nullptr) {
    paths.emplace_back();
  } else if (attribute->is(JinjaKind::Text)) {
    for (const JinjaText& part : split_at(attribute->as_text(), ",", -1, call.budget)) {
      paths.push_back(attribute_path(JinjaValue::text(part), call.budget));
    }
  } else {
    paths.push_back({*attribute});
  }
  std::vector<KeyedItem> keyed;
  for (const JinjaValue& item : jinja_items(call.self, call.budget)) {
    KeyedItem entry{{}, item};
    for (const JinjaItems& path : paths) {
      entry.keys.push_back(
          sort_key(follow_path(item, path, call.budget), case_sensitive, call.budget));
    }
    keyed.push_back(std::move(entry));
  }
  return keyed;
}

JinjaValue sort(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"reverse", "case_sensitive", "attribute"});
  const JinjaValue* attribute = arguments.absent(2) ? nullptr : &arguments[2];
  return JinjaValue::list(sorted(keyed_items(call, attribute, arguments.flag_or(1, false)),
                                 arguments.flag_or(0, false),
                                 call.budget));
}

JinjaValue dictsort(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"case_sensitive", "by", "reverse"});
  const std::string by = arguments.text_or(1, "key").bytes();
  check(by == "key" || by == "value", "dictsort: 'by' must be key or value, got '", by, "'");
  check(call.self.is(JinjaKind::Mapping),
        "dictsort works on a dict only, got ",
        call.self.type_name());
  std::vector<KeyedItem> keyed;
  call.budget.spend(4 * call.self.as_mapping().entries.size());
  for (const auto& [key, value] : call.self.as_mapping().entries) {
    const JinjaValue compared =
        sort_key(by == "key" ? key : value, arguments.flag_or(0, false), call.budget);
    keyed.push_back(
        {{compared},
         JinjaValue::sequence(SequenceKind::Tuple, {key, value}, call.self.is_input())});
  }
  return JinjaValue::list(sorted(std::move(keyed), arguments.flag_or(2, false), call.budget));
}

JinjaValue unique(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"case_sensitive", "attribute"});
  const JinjaValue* attribute = arguments.absent(1) ? nullptr : &arguments[1];
  std::vector<KeyedItem> kept;
  JinjaItems out;
  for (KeyedItem& entry : keyed_items(call, attribute, arguments.flag_or(0, false))) {
    const bool seen = std::any_of(kept.begin(), kept.end(), [&](const KeyedItem& other) {
      return jinja_equals(other.keys[0], entry.keys[0], call.budget);
    });
    if (!seen) {
      out.push_back(entry.item);
      kept.push_back(std::move(entry));
    }
  }
  return JinjaValue::iterator(std::move(out));
}

template <bool kLargest>
JinjaValue extreme(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"case_sensitive", "attribute"});
  const JinjaValue* attribute = arguments.absent(1) ? nullptr : &arguments[1];
  const std::vector<KeyedItem> keyed = keyed_items(call, attribute, arguments.flag_or(0, false));
  if (keyed.empty()) {
    return JinjaValue::undefined("no smallest or largest item, the sequence is empty");
  }
  const KeyedItem* best = &keyed[0];
  for (const KeyedItem& entry : keyed) {
    const bool better = kLargest ? keys_less(best->keys, entry.keys, call.budget)
                                 : keys_less(entry.keys, best->keys, call.budget);
    best = better ? &entry : best;
  }
  return best->item;
}

JinjaValue sum(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"attribute", "start"});
  const JinjaItems path =
      arguments.absent(0) ? JinjaItems() : attribute_path(arguments[0], call.budget);
  JinjaValue total = arguments.value_or(1, JinjaValue::integer(0));
  check(!total.is(JinjaKind::Text), "sum does not join strings; use join");
  for (const JinjaValue& item : jinja_items(call.self, call.budget)) {
    total =
        apply_binary(BinaryOperator::Add, total, follow_path(item, path, call.budget), call.budget);
  }
  return total;
}

}  // namespace

const std::vector<NamedFilter>& jinja_list_filters() {
  static const std::vector<NamedFilter> kFilters = {
      {"count", length},
      {"d", default_filter},
      {"default", default_filter},
      {"dictsort", dictsort},
      {"first", first},
      {"items", items},
      {"join", join},
      {"last", last},
      {"length", length},
      {"list", list},
      {"map", map},
      {"max", extreme<true>},
      {"min", extreme<false>},
      {"reject", select<false, false>},
      {"rejectattr", select<false, true>},
      {"reverse", reverse},
      {"select", select<true, false>},
      {"selectattr", select<true, true>},
      {"sort", sort},
      {"sum", sum},
      {"unique", unique},
  };
  return kFilters;
}

}  // namespace ssa
