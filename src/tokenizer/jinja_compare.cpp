// Equality, order, look-up and iteration of the template engine's values.
#include <algorithm>

#include "tokenizer/jinja_text_algorithms.h"
#include "tokenizer/jinja_value.h"

namespace ssa {
namespace {

bool equal_sequences(const JinjaSequence& a, const JinjaSequence& b, JinjaBudget& budget) {
  return a.kind == b.kind && a.items.size() == b.items.size() &&
         std::equal(
             a.items.begin(),
             a.items.end(),
             b.items.begin(),
             [&](const JinjaValue& x, const JinjaValue& y) { return jinja_equals(x, y, budget); });
}

bool equal_mappings(const JinjaMapping& a, const JinjaMapping& b, JinjaBudget& budget) {
  return a.entries.size() == b.entries.size() &&
         std::all_of(a.entries.begin(), a.entries.end(), [&](const auto& entry) {
           const JinjaValue* other = mapping_find(b, entry.first, budget);
           return other != nullptr && jinja_equals(entry.second, *other, budget);
         });
}

bool equal_numbers(const JinjaValue& a, const JinjaValue& b) {
  if (a.is(JinjaKind::Float) || b.is(JinjaKind::Float)) {
    return a.as_real() == b.as_real();
  }
  return a.as_int() == b.as_int();
}

bool less_sequences(const JinjaItems& a, const JinjaItems& b, JinjaBudget& budget) {
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (!jinja_equals(a[i], b[i], budget)) {
      return jinja_less(a[i], b[i], budget);
    }
  }
  return a.size() < b.size();
}

/// Python hashes what cannot change.
bool is_hashable(const JinjaValue& key) {
  if (key.is_sequence(SequenceKind::Tuple)) {
    const JinjaItems& items = key.as_sequence().items;
    return std::all_of(items.begin(), items.end(), is_hashable);
  }
  return !key.is(JinjaKind::Sequence) && !key.is(JinjaKind::Mapping);
}

JinjaItems characters(const JinjaText& text, JinjaBudget& budget) {
  JinjaItems items;
  text.for_each_character([&](char32_t, std::string_view bytes, bool is_input) {
    budget.spend(6);  // a text of its own each, some 200 bytes
    items.push_back(JinjaValue::text(JinjaText(bytes, is_input)));
  });
  return items;
}

JinjaItems use_up(JinjaIterator& iterator) {
  JinjaItems items(iterator.items.begin() + static_cast<ptrdiff_t>(iterator.next),
                   iterator.items.end());
  iterator.next = iterator.items.size();
  return items;
}

}  // namespace

bool jinja_equals(const JinjaValue& a, const JinjaValue& b, JinjaBudget& budget) {
  budget.spend(1);
  if (a.is_number() && b.is_number()) return equal_numbers(a, b);
  if (a.kind() != b.kind()) return false;
  if (a.is(JinjaKind::Undefined) || a.is(JinjaKind::None)) return true;
  if (a.is(JinjaKind::Text)) {
    budget.spend_bytes(std::min(a.as_text().size(), b.as_text().size()));
    return a.as_bytes() == b.as_bytes();
  }
  if (a.identity() == b.identity()) return true;
  if (a.is(JinjaKind::Sequence)) return equal_sequences(a.as_sequence(), b.as_sequence(), budget);
  if (a.is(JinjaKind::Mapping)) return equal_mappings(a.as_mapping(), b.as_mapping(), budget);
  return false;
}

bool jinja_less(const JinjaValue& a, const JinjaValue& b, JinjaBudget& budget) {
  budget.spend(1);
  if (a.is_number() && b.is_number()) {
    const bool real = a.is(JinjaKind::Float) || b.is(JinjaKind::Float);
    return real ? a.as_real() < b.as_real() : a.as_int() < b.as_int();
  }
  if (a.is(JinjaKind::Undefined)) fail(a.undefined_reason());
  if (b.is(JinjaKind::Undefined)) fail(b.undefined_reason());
  if (a.is(JinjaKind::Text) && b.is(JinjaKind::Text)) {
    budget.spend_bytes(std::min(a.as_text().size(), b.as_text().size()));
    return a.as_bytes() < b.as_bytes();  // UTF-8 sorts as code points do
  }
  const bool ordered = (a.is_sequence(SequenceKind::List) && b.is_sequence(SequenceKind::List)) ||
                       (a.is_sequence(SequenceKind::Tuple) && b.is_sequence(SequenceKind::Tuple));
  check(ordered, "values of type ", a.type_name(), " and ", b.type_name(), " have no order");
  return less_sequences(a.as_sequence().items, b.as_sequence().items, budget);
}

const JinjaValue* mapping_find(const JinjaMapping& mapping,
                               const JinjaValue& key,
                               JinjaBudget& budget) {
  budget.spend(1 + mapping.entries.size() / 16);
  if (key.is(JinjaKind::Text)) {
    return mapping.find(key.as_bytes());
  }
  for (const auto& [name, value] : mapping.entries) {
    if (jinja_equals(name, key, budget)) {
      return &value;
    }
  }
  return nullptr;
}

void mapping_set(JinjaMapping& mapping, JinjaValue key, JinjaValue value, JinjaBudget& budget) {
  check(is_hashable(key), "a ", key.type_name(), " cannot be the key of a dict");
  for (auto& [name, old] : mapping.entries) {
    if (jinja_equals(name, key, budget)) {
      old = std::move(value);
      return;
    }
  }
  mapping.entries.emplace_back(std::move(key), std::move(value));
}

JinjaItems jinja_items(const JinjaValue& value, JinjaBudget& budget) {
  switch (value.kind()) {
    case JinjaKind::Undefined:
      return {};
    case JinjaKind::Text:
      return characters(value.as_text(), budget);
    case JinjaKind::Sequence:
      budget.spend(1 + value.as_sequence().items.size());
      return value.as_sequence().items;
    case JinjaKind::Iterator:
      budget.spend(1 + value.as_iterator().items.size());
      return use_up(value.as_iterator());
    case JinjaKind::Mapping: {
      JinjaItems keys;
      budget.spend(1 + value.as_mapping().entries.size());
      for (const auto& entry : value.as_mapping().entries) {
        keys.push_back(entry.first);
      }
      return keys;
    }
    default:
      fail("a value of type ", value.type_name(), " cannot be iterated over");
  }
}

size_t jinja_length(const JinjaValue& value, JinjaBudget& budget) {
  switch (value.kind()) {
    case JinjaKind::Undefined:
      return 0;
    case JinjaKind::Sequence:
      return value.as_sequence().items.size();
    case JinjaKind::Mapping:
      return value.as_mapping().entries.size();
    case JinjaKind::Loop:
      return value.as_loop().items->size();
    case JinjaKind::Text: {
      budget.spend_bytes(value.as_text().size());
      return count_characters(value.as_bytes());
    }
    default:
      fail("a value of type ", value.type_name(), " has no length");
  }
}

}  // namespace ssa
