#include "base/json.h"

#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"

namespace ssa {
namespace {

constexpr size_t kMaxDepth = 256;  // dump and destruction recurse, so nesting is bounded

/// Builds the tree from parser events. nlohmann's own builder looks through an ordered object for
/// every key it adds, which takes half a minute for a vocabulary of 150 000 tokens.
class TreeBuilder final : public nlohmann::json_sax<Json> {
 public:
  TreeBuilder(std::string_view text, std::string_view what)
      : what_(what), one_line_(text.find('\n') == std::string_view::npos) {}
  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // JSON text has none

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    open_.back()->get_ref<Json::object_t&>().emplace_back(std::move(name), nullptr);
    return true;
  }
  bool end_object() override {
    check_keys_differ(open_.back()->get_ref<const Json::object_t&>());
    return close();
  }

  bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..." -> what follows the
    // bracket, without the line of a text that has but one: `what` may name a row of a file.
    std::string message = error.what();
    message.erase(0, message.starts_with("[") ? message.find("] ") + 2 : 0);
    if (const size_t line = message.find(kLineOne); one_line_ && line != std::string::npos) {
      message.erase(line, kLineOne.size());
    }
    fail(what_, ": ", escape_invalid_utf8(message));
  }

 private:
  Json* place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    Json& slot = parent.get_ref<Json::object_t&>().back().second;
    slot = std::move(value);
    return &slot;
  }
  bool add(Json value) {
    place(std::move(value));
    return true;
  }
  bool open(Json container) {
    check(open_.size() < kMaxDepth, what_, ": nested deeper than ", kMaxDepth, " levels");
    open_.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  void check_keys_differ(const Json::object_t& object) const {
    std::unordered_set<std::string_view> seen;
    seen.reserve(object.size());
    for (const auto& [name, value] : object) {
      check(seen.insert(name).second, what_, ": key '", name, "' stands twice in one object");
    }
  }

  static constexpr std::string_view kLineOne = "line 1, ";

  std::string_view what_;
  bool one_line_;
  Json root_;
  std::vector<Json*> open_;  // the containers around the current position, outermost first
};

template <class T>
bool has_type(const Json& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value.is_boolean();
  } else if constexpr (std::is_same_v<T, int64_t>) {
    return value.is_number_integer();
  } else if constexpr (std::is_same_v<T, double>) {
    return value.is_number();
  } else {
    return value.is_string();
  }
}

template <class T>
constexpr const char* type_name() {
  if constexpr (std::is_same_v<T, bool>) {
    return "true or false";
  } else if constexpr (std::is_same_v<T, int64_t>) {
    return "an integer";
  } else if constexpr (std::is_same_v<T, double>) {
    return "a number";
  } else {
    return "a string";
  }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view what) {
  TreeBuilder builder(text, what);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

Json read_json_file(const std::filesystem::path& path) {
  return parse_json(read_file(path), path.string());
}

std::string dump_json(const Json& value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

const Json* find_key(const Json& object, const char* key) {
  if (!object.is_object()) {
    return nullptr;
  }
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

template <class T>
T get_or(const Json& object, const char* key, T fallback) {
  const Json* value = find_key(object, key);
  if (value == nullptr) {
    return fallback;
  }
  check(has_type<T>(*value),
        "key '",
        key,
        "': expected ",
        type_name<T>(),
        ", got ",
        dump_json(*value).substr(0, 80));
  return value->get<T>();
}

template int64_t get_or<int64_t>(const Json&, const char*, int64_t);
template double get_or<double>(const Json&, const char*, double);
template bool get_or<bool>(const Json&, const char*, bool);
template std::string get_or<std::string>(const Json&, const char*, std::string);

}  // namespace ssa
