// The values of the template engine. They behave as the Python values that jinja2 sees, and know
// whether they came from the messages.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "tokenizer/jinja_budget.h"
#include "tokenizer/jinja_text.h"

namespace ssa {

class JinjaValue;
struct JinjaCall;
using JinjaItems = std::vector<JinjaValue>;

/// In the order of JinjaValue's alternatives.
enum class JinjaKind {
  Undefined,
  None,
  Bool,
  Int,
  Float,
  Text,
  Sequence,
  Mapping,
  Iterator,
  Namespace,
  Function,
  Loop
};

enum class SequenceKind { List, Tuple, Range, KeysView, ValuesView, ItemsView };

/// How values inside values may nest: destroying, comparing and printing recurse.
constexpr int kMaxValueDepth = 300;

/// What the heap-allocated kinds share: their nesting depth, 1 if they hold nothing that nests.
struct JinjaObject {
  int depth = 1;
};

struct JinjaSequence : JinjaObject {
  SequenceKind kind = SequenceKind::List;
  JinjaItems items;
};

/// A dict: keeps the order of insertion. Look-up is linear: dicts of messages and tools are small
/// (and big ones cost steps, see mapping_lookup_cost).
struct JinjaMapping : JinjaObject {
  std::vector<std::pair<JinjaValue, JinjaValue>> entries;

  const JinjaValue* find(std::string_view key) const;
};

/// A Python generator, evaluated beforehand: it can be read once.
struct JinjaIterator : JinjaObject {
  JinjaItems items;
  size_t next = 0;
};

/// The only thing a template can change. Counts as depth 1, so a namespace may hold itself; the
/// evaluator owns all of them and takes such cycles apart.
struct JinjaNamespace : JinjaObject {
  std::vector<std::pair<std::string, JinjaValue>> attributes;

  const JinjaValue* find(std::string_view name) const;
  void set(const std::string& name, JinjaValue value);
};

struct JinjaFunction : JinjaObject {
  std::string name;
  std::function<JinjaValue(JinjaCall&)> body;
};

/// The `loop` of a for statement.
struct JinjaLoop : JinjaObject {
  std::shared_ptr<const JinjaItems> items;
  size_t index0 = 0;
  JinjaItems last_changed;  // arguments of the last loop.changed(...)
  bool changed_called = false;
};

/// Immutable apart from namespaces, iterators and loops; copying is cheap.
class JinjaValue {
 public:
  /// Why the value is missing: what reading it further will report.
  struct Undefined {
    std::shared_ptr<const std::string> reason;
  };

  JinjaValue() = default;  // None
  static JinjaValue undefined(std::string reason);
  static JinjaValue boolean(bool value, bool is_input = false) { return {value, is_input}; }
  static JinjaValue integer(int64_t value, bool is_input = false) { return {value, is_input}; }
  static JinjaValue real(double value, bool is_input = false) { return {value, is_input}; }
  static JinjaValue text(JinjaText value);
  /// A text marked as safe HTML: adding another text to it escapes that one.
  static JinjaValue markup(JinjaText value);
  static JinjaValue literal(std::string_view value) { return text(JinjaText(value)); }
  /// Throw Error if the value nests deeper than kMaxValueDepth.
  static JinjaValue sequence(SequenceKind kind, JinjaItems items, bool is_input = false);
  static JinjaValue list(JinjaItems items, bool is_input = false);
  static JinjaValue mapping(JinjaMapping mapping, bool is_input = false);
  static JinjaValue iterator(JinjaItems items);
  /// `holds`: a value that the function keeps, which counts as nested in it.
  static JinjaValue function(std::string name,
                             std::function<JinjaValue(JinjaCall&)> body,
                             const JinjaValue* holds = nullptr);
  static JinjaValue name_space(std::shared_ptr<JinjaNamespace> attributes);
  static JinjaValue loop(std::shared_ptr<JinjaLoop> state);
  /// Throws Error for integers beyond 64 bits and too deep nesting. Broken UTF-8 becomes U+FFFD.
  static JinjaValue from_json(const Json& json, bool is_input);

  JinjaKind kind() const { return static_cast<JinjaKind>(data_.index()); }
  bool is(JinjaKind wanted) const { return kind() == wanted; }
  bool is_sequence(SequenceKind wanted) const;
  /// Bool, int or float.
  bool is_number() const;
  bool is_markup() const { return is_markup_; }
  /// Whether the value came from the messages; of a text: whether a part of it did.
  bool is_input() const;

  /// Each requires the kind.
  const std::string& undefined_reason() const { return *std::get<Undefined>(data_).reason; }
  bool as_bool() const { return std::get<bool>(data_); }
  const JinjaText& as_text() const { return *get<JinjaText>(); }
  const std::string& as_bytes() const { return as_text().bytes(); }
  const JinjaSequence& as_sequence() const { return *get<JinjaSequence>(); }
  const JinjaMapping& as_mapping() const { return *get<JinjaMapping>(); }
  JinjaIterator& as_iterator() const { return *std::get<std::shared_ptr<JinjaIterator>>(data_); }
  JinjaNamespace& as_namespace() const { return *std::get<std::shared_ptr<JinjaNamespace>>(data_); }
  const JinjaFunction& as_function() const { return *get<JinjaFunction>(); }
  JinjaLoop& as_loop() const { return *std::get<std::shared_ptr<JinjaLoop>>(data_); }
  /// Of a bool or int, as Python's bool is an int.
  int64_t as_int() const;
  /// Of a bool, int or float.
  double as_real() const;

  /// Python's truth.
  bool truth() const;
  /// Python's type name, for messages: "str", "list", ...
  std::string_view type_name() const;
  int depth() const;
  /// The heap object, for Python's `is`; null for the kinds without one.
  const void* identity() const;

 private:
  using Data = std::variant<Undefined,
                            std::monostate,
                            bool,
                            int64_t,
                            double,
                            std::shared_ptr<const JinjaText>,
                            std::shared_ptr<const JinjaSequence>,
                            std::shared_ptr<const JinjaMapping>,
                            std::shared_ptr<JinjaIterator>,
                            std::shared_ptr<JinjaNamespace>,
                            std::shared_ptr<const JinjaFunction>,
                            std::shared_ptr<JinjaLoop>>;

  JinjaValue(Data data, bool is_input) : data_(std::move(data)), is_input_(is_input) {}
  template <class T>
  const std::shared_ptr<const T>& get() const {
    return std::get<std::shared_ptr<const T>>(data_);
  }

  Data data_ = std::monostate();
  bool is_input_ = false;
  bool is_markup_ = false;
};

/// Python's ==. Steps are spent per compared item and character.
bool jinja_equals(const JinjaValue& a, const JinjaValue& b, JinjaBudget& budget);
/// Python's <; throws Error for types that have no order.
bool jinja_less(const JinjaValue& a, const JinjaValue& b, JinjaBudget& budget);
/// Python's dict[key]; null if there is none.
const JinjaValue* mapping_find(const JinjaMapping& mapping,
                               const JinjaValue& key,
                               JinjaBudget& budget);
/// Python's dict[key] = value; throws Error for keys that Python cannot hash.
void mapping_set(JinjaMapping& mapping, JinjaValue key, JinjaValue value, JinjaBudget& budget);

/// What a for loop over the value sees; an iterator is used up. Throws Error if it cannot be
/// iterated over.
JinjaItems jinja_items(const JinjaValue& value, JinjaBudget& budget);
/// Python's len(); throws Error for values that have none.
size_t jinja_length(const JinjaValue& value, JinjaBudget& budget);

}  // namespace ssa
