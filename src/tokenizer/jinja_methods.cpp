#include "tokenizer/jinja_methods.h"

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tokenizer/jinja_characters.h"
#include "tokenizer/jinja_text_algorithms.h"

namespace ssa {
namespace {

using Method = JinjaValue (*)(JinjaCall&);

struct NamedMethod {
  std::string_view name;
  Method method;
};

JinjaValue text_list(std::vector<JinjaText> pieces) {
  JinjaItems items;
  items.reserve(pieces.size());
  for (JinjaText& piece : pieces) {
    items.push_back(JinjaValue::text(std::move(piece)));
  }
  return JinjaValue::list(std::move(items));
}

template <bool kLeft, bool kRight>
JinjaValue strip_method(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"characters"});
  std::optional<JinjaText> characters;
  if (!arguments.absent(0)) {
    characters = arguments.text_or(0, "");
  }
  return JinjaValue::text(strip(call.self.as_text(), characters, {kLeft, kRight}));
}

template <auto kAtSpace, auto kAtSeparator>
JinjaValue split_method(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"sep", "maxsplit"});
  const int64_t max_splits = arguments.int_or(1, -1);
  const JinjaText& text = call.self.as_text();
  if (arguments.absent(0)) {
    return text_list(kAtSpace(text, max_splits, call.budget));
  }
  return text_list(kAtSeparator(text, arguments.text_or(0, "").bytes(), max_splits, call.budget));
}

JinjaValue split_lines_method(JinjaCall& call) {
  return text_list(
      split_lines(call.self.as_text(), call.bind({"keepends"}).flag_or(0, false), call.budget));
}

template <JinjaText (*kAlgorithm)(const JinjaText&)>
JinjaValue text_method(JinjaCall& call) {
  call.bind({});
  return JinjaValue::text(kAlgorithm(call.self.as_text()));
}

/// Whether affix.fits(text), for a string or any of a tuple of strings.
template <class Fits>
JinjaValue test_affixes(JinjaCall& call, Fits fits) {
  const BoundArguments arguments = call.bind({"affix"}, 1);
  const std::string_view text = call.self.as_bytes();
  JinjaItems affixes = {arguments[0]};
  if (arguments[0].is_sequence(SequenceKind::Tuple)) {
    affixes = arguments[0].as_sequence().items;
  }
  const bool any = std::any_of(affixes.begin(), affixes.end(), [&](const JinjaValue& affix) {
    check(affix.is(JinjaKind::Text), call.name, " needs a string or a tuple of strings");
    return fits(text, std::string_view(affix.as_bytes()));
  });
  return JinjaValue::boolean(any);
}

JinjaValue starts_with(JinjaCall& call) {
  return test_affixes(
      call, [](std::string_view text, std::string_view affix) { return text.starts_with(affix); });
}

JinjaValue ends_with(JinjaCall& call) {
  return test_affixes(
      call, [](std::string_view text, std::string_view affix) { return text.ends_with(affix); });
}

JinjaValue remove_prefix(JinjaCall& call) {
  const JinjaText prefix = call.bind({"prefix"}, 1).text_or(0, "");
  const JinjaText& text = call.self.as_text();
  const bool there = text.bytes().starts_with(prefix.bytes());
  return JinjaValue::text(text.slice(there ? prefix.size() : 0, text.size()));
}

JinjaValue remove_suffix(JinjaCall& call) {
  const JinjaText suffix = call.bind({"suffix"}, 1).text_or(0, "");
  const JinjaText& text = call.self.as_text();
  const bool there = text.bytes().ends_with(suffix.bytes());
  return JinjaValue::text(text.slice(0, text.size() - (there ? suffix.size() : 0)));
}

JinjaValue replace_method(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"old", "new", "count"}, 2);
  const JinjaText old = arguments.text_or(0, "");
  return JinjaValue::text(replace_text(call.self.as_text(),
                                       old.bytes(),
                                       arguments.text_or(1, ""),
                                       arguments.int_or(2, -1),
                                       call.budget));
}

/// Character index of a byte offset; -1 for npos.
int64_t character_index(std::string_view text, size_t offset) {
  return offset == std::string_view::npos
             ? -1
             : static_cast<int64_t>(count_characters(text.substr(0, offset)));
}

JinjaValue find_method(JinjaCall& call) {
  const JinjaText wanted = call.bind({"sub"}, 1).text_or(0, "");
  const std::string& text = call.self.as_bytes();
  return JinjaValue::integer(character_index(text, find_bytes(text, wanted.bytes())));
}

JinjaValue rfind_method(JinjaCall& call) {
  const JinjaText wanted = call.bind({"sub"}, 1).text_or(0, "");
  const std::string& text = call.self.as_bytes();
  return JinjaValue::integer(character_index(text, rfind_bytes(text, wanted.bytes())));
}

JinjaValue index_method(JinjaCall& call) {
  const JinjaValue index = find_method(call);
  check(index.as_int() >= 0, call.name, ": the substring is not there");
  return index;
}

JinjaValue count_method(JinjaCall& call) {
  const JinjaText wanted = call.bind({"sub"}, 1).text_or(0, "");
  const std::string& text = call.self.as_bytes();
  if (wanted.empty()) {
    return JinjaValue::integer(static_cast<int64_t>(count_characters(text)) + 1);
  }
  int64_t n = 0;
  for (size_t at = 0; (at = find_bytes(text, wanted.bytes(), at)) != std::string_view::npos;) {
    call.budget.spend(1);
    at += wanted.size();
    ++n;
  }
  return JinjaValue::integer(n);
}

JinjaValue join_method(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"iterable"}, 1);
  JinjaText out;
  bool first = true;
  for (const JinjaValue& item : jinja_items(arguments[0], call.budget)) {
    check(item.is(JinjaKind::Text), "join: an item is no string but a ", item.type_name());
    call.budget.spend_bytes(item.as_text().size() + call.self.as_text().size());
    if (!first) {
      out.append(call.self.as_text());
    }
    out.append(item.as_text());
    first = false;
  }
  return JinjaValue::text(std::move(out));
}

template <bool (*kFits)(char32_t)>
JinjaValue all_characters(JinjaCall& call) {
  call.bind({});
  bool all = !call.self.as_text().empty();
  call.self.as_text().for_each_character(
      [&](char32_t c, std::string_view, bool) { all = all && kFits(c); });
  return JinjaValue::boolean(all);
}

/// isupper and islower: a cased letter is there, and all cased letters fit.
template <bool (*kFits)(char32_t)>
JinjaValue all_letters(JinjaCall& call) {
  call.bind({});
  bool any = false;
  bool all = true;
  call.self.as_text().for_each_character([&](char32_t c, std::string_view, bool) {
    any = any || is_cased(c);
    all = all && (!is_cased(c) || kFits(c));
  });
  return JinjaValue::boolean(any && all);
}

JinjaValue partition_at(const JinjaText& text,
                        const JinjaText& separator,
                        size_t found,
                        bool from_end) {
  check(!separator.empty(), "partition: the separator is empty");
  JinjaItems parts(3, JinjaValue::text({}));
  if (found == std::string_view::npos) {
    parts[from_end ? 2 : 0] = JinjaValue::text(text);
  } else {
    parts = {JinjaValue::text(text.slice(0, found)),
             JinjaValue::text(separator),
             JinjaValue::text(text.slice(found + separator.size(), text.size()))};
  }
  return JinjaValue::sequence(SequenceKind::Tuple, std::move(parts));
}

JinjaValue partition(JinjaCall& call) {
  const JinjaText separator = call.bind({"sep"}, 1).text_or(0, "");
  const JinjaText& text = call.self.as_text();
  return partition_at(text, separator, find_bytes(text.bytes(), separator.bytes()), false);
}

JinjaValue rpartition(JinjaCall& call) {
  const JinjaText separator = call.bind({"sep"}, 1).text_or(0, "");
  const JinjaText& text = call.self.as_text();
  return partition_at(text, separator, rfind_bytes(text.bytes(), separator.bytes()), true);
}

constexpr NamedMethod kTextMethods[] = {
    {"capitalize", text_method<capitalize>},
    {"count", count_method},
    {"endswith", ends_with},
    {"find", find_method},
    {"index", index_method},
    {"isalnum", all_characters<is_python_alnum>},
    {"isalpha", all_characters<is_python_letter>},
    {"isdecimal", all_characters<is_python_decimal>},
    {"isdigit", all_characters<is_python_decimal>},
    {"islower", all_letters<is_lower_case>},
    {"isnumeric", all_characters<is_python_numeric>},
    {"isspace", all_characters<is_python_space>},
    {"isupper", all_letters<is_upper_case>},
    {"join", join_method},
    {"lower", text_method<lower>},
    {"lstrip", strip_method<true, false>},
    {"partition", partition},
    {"removeprefix", remove_prefix},
    {"removesuffix", remove_suffix},
    {"replace", replace_method},
    {"rfind", rfind_method},
    {"rpartition", rpartition},
    {"rsplit", split_method<rsplit_at_space, rsplit_at>},
    {"rstrip", strip_method<false, true>},
    {"split", split_method<split_at_space, split_at>},
    {"splitlines", split_lines_method},
    {"startswith", starts_with},
    {"strip", strip_method<true, true>},
    {"title", text_method<title>},
    {"upper", text_method<upper>},
};

/// What Python's str has besides: reading it must not look like a missing attribute.
constexpr std::string_view kOtherTextMethods[] = {"casefold",
                                                  "center",
                                                  "encode",
                                                  "expandtabs",
                                                  "format",
                                                  "format_map",
                                                  "isascii",
                                                  "isidentifier",
                                                  "isprintable",
                                                  "istitle",
                                                  "ljust",
                                                  "maketrans",
                                                  "rindex",
                                                  "rjust",
                                                  "swapcase",
                                                  "translate",
                                                  "zfill"};

JinjaValue get_method(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"key", "default"}, 1);
  const JinjaValue* found = mapping_find(call.self.as_mapping(), arguments[0], call.budget);
  return found != nullptr ? *found : arguments.value_or(1, JinjaValue());
}

template <SequenceKind kView>
JinjaValue view_method(JinjaCall& call) {
  call.bind({});
  const JinjaMapping& mapping = call.self.as_mapping();
  call.budget.spend(1 + 4 * mapping.entries.size());
  JinjaItems items;
  for (const auto& [key, value] : mapping.entries) {
    if (kView == SequenceKind::ItemsView) {
      items.push_back(
          JinjaValue::sequence(SequenceKind::Tuple, {key, value}, call.self.is_input()));
    } else {
      items.push_back(kView == SequenceKind::KeysView ? key : value);
    }
  }
  return JinjaValue::sequence(kView, std::move(items), call.self.is_input());
}

JinjaValue copy_method(JinjaCall& call) {
  call.bind({});
  return call.self;
}

constexpr NamedMethod kMappingMethods[] = {
    {"copy", copy_method},
    {"get", get_method},
    {"items", view_method<SequenceKind::ItemsView>},
    {"keys", view_method<SequenceKind::KeysView>},
    {"values", view_method<SequenceKind::ValuesView>},
};
constexpr std::string_view kMappingChanges[] = {
    "clear", "fromkeys", "pop", "popitem", "setdefault", "update"};

JinjaValue list_index_method(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"value"}, 1);
  const JinjaItems& items = call.self.as_sequence().items;
  const auto it = std::find_if(items.begin(), items.end(), [&](const JinjaValue& item) {
    return jinja_equals(item, arguments[0], call.budget);
  });
  check(it != items.end(), call.name, ": the value is not there");
  return JinjaValue::integer(it - items.begin());
}

JinjaValue list_count_method(JinjaCall& call) {
  const BoundArguments arguments = call.bind({"value"}, 1);
  const JinjaItems& items = call.self.as_sequence().items;
  return JinjaValue::integer(std::count_if(items.begin(), items.end(), [&](const JinjaValue& item) {
    return jinja_equals(item, arguments[0], call.budget);
  }));
}

constexpr NamedMethod kListMethods[] = {
    {"copy", copy_method}, {"count", list_count_method}, {"index", list_index_method}};
constexpr std::string_view kListChanges[] = {
    "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"};

/// The row of that name, if any, bound to the value.
JinjaValue bind_method(std::span<const NamedMethod> table,
                       const JinjaValue& value,
                       const std::string& name) {
  const auto it = std::find_if(
      table.begin(), table.end(), [&](const NamedMethod& row) { return row.name == name; });
  if (it == table.end()) {
    return {};
  }
  const auto body = [value, method = it->method](JinjaCall& call) {
    call.self = value;
    call.budget.spend_bytes(value.is(JinjaKind::Text) ? value.as_text().size() : 0);
    return method(call);
  };
  return JinjaValue::function(name, body, &value);
}

bool lists(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

JinjaValue unsafe(const JinjaValue& value, const std::string& name) {
  return JinjaValue::undefined(
      concat("access to attribute '", name, "' of '", value.type_name(), "' object is unsafe"));
}

void check_text_method_supported(const std::string& name) {
  if (!lists(kOtherTextMethods, name)) {
    return;
  }
  std::string known;
  for (const NamedMethod& row : kTextMethods) {
    known += concat(known.empty() ? "" : ", ", row.name);
  }
  fail("string method '", name, "' is not supported (supported: ", known, ")");
}

}  // namespace

JinjaValue find_jinja_method(const JinjaValue& value, const std::string& name) {
  if (value.is(JinjaKind::Text)) {
    check_text_method_supported(name);
    return bind_method(kTextMethods, value, name);
  }
  if (value.is(JinjaKind::Mapping)) {
    return lists(kMappingChanges, name) ? unsafe(value, name)
                                        : bind_method(kMappingMethods, value, name);
  }
  if (value.is_sequence(SequenceKind::List)) {
    return lists(kListChanges, name) ? unsafe(value, name) : bind_method(kListMethods, value, name);
  }
  if (value.is_sequence(SequenceKind::Tuple) && name != "copy") {
    return bind_method(kListMethods, value, name);
  }
  return {};
}

}  // namespace ssa
