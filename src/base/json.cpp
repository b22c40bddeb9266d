#include "base/json.h"

#include "base/error.h"
#include "base/file.h"

namespace ssa {
namespace {

constexpr int kMaxDepth = 256;  // dump and destruction recurse, so nesting is bounded

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
  const auto limit_depth = [&](int depth, Json::parse_event_t, Json&) {
    check(depth <= kMaxDepth, what, ": nested deeper than ", kMaxDepth, " levels");
    return true;
  };
  try {
    return Json::parse(text, limit_depth);
  } catch (const Json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..." -> what follows the bracket
    const std::string message = error.what();
    const size_t bracket = message.find("] ");
    fail(what, ": ", bracket == std::string::npos ? message : message.substr(bracket + 2));
  }
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
  check(has_type<T>(*value), "key '", key, "': expected ", type_name<T>(), ", got ",
        dump_json(*value).substr(0, 80));
  return value->get<T>();
}

template int64_t get_or<int64_t>(const Json&, const char*, int64_t);
template double get_or<double>(const Json&, const char*, double);
template bool get_or<bool>(const Json&, const char*, bool);
template std::string get_or<std::string>(const Json&, const char*, std::string);

}  // namespace ssa
