// JSON by nlohmann, with the limits and the error lines that files from outside need.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

namespace ssa {

/// Keeps the order of keys, so that a file that is read and saved again stays recognisable.
using Json = nlohmann::ordered_json;

/// Parses `text`. Throws Error "WHAT: ..." on a syntax error (with its column, and its line where
/// `text` has several; bytes that are not UTF-8 as "\xff"), nesting deeper than 256, or a key that
/// stands twice in one object. Linear in the text's size.
Json parse_json(std::string_view text, std::string_view what);

/// Reads and parses a file; throws Error naming the path.
Json read_json_file(const std::filesystem::path& path);

/// Serialises; broken UTF-8 becomes U+FFFD instead of an exception. indent < 0: one line.
std::string dump_json(const Json& value, int indent = -1);

/// object[key] if present and not null, else nullptr.
const Json* find_key(const Json& object, const char* key);

/// object[key] as T, or `fallback` if absent or null; throws Error naming the key if it has another
/// type.
template <class T>
T get_or(const Json& object, const char* key, T fallback);

extern template int64_t get_or<int64_t>(const Json&, const char*, int64_t);
extern template double get_or<double>(const Json&, const char*, double);
extern template bool get_or<bool>(const Json&, const char*, bool);
extern template std::string get_or<std::string>(const Json&, const char*, std::string);

}  // namespace ssa
