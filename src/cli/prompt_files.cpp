#include "cli/prompt_files.h"

#include <limits>

#include "base/error.h"
#include "base/json.h"

namespace ssa {
namespace {

constexpr const char* kForms =
    "expected a list of token ids, {\"ids\": [...]}, {\"prefix\": [...], \"suffix\": [...]} or "
    "{\"pieces\": [[...], ...], \"suffix\": [...]}";

/// nlohmann's get<int64_t>() would wrap what lies above.
bool is_token_id(const Json& id) {
  return id.is_number_unsigned() &&
         id.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()};
}

std::vector<int64_t> parse_ids(const Json& list, const std::string& where) {
  check(list.is_array(),
        where,
        ": expected a list of token ids, got ",
        dump_json(list).substr(0, 40));
  std::vector<int64_t> ids;
  for (const Json& id : list) {
    check(is_token_id(id),
          where,
          ": token id ",
          dump_json(id).substr(0, 40),
          " is not an integer from 0 to 2^63 - 1");
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

std::vector<std::vector<int64_t>> parse_pieces(const Json& list, const std::string& where) {
  check(list.is_array(), where, ": expected a list of lists of token ids");
  std::vector<std::vector<int64_t>> pieces;
  for (const Json& piece : list) {
    pieces.push_back(parse_ids(piece, where));
  }
  return pieces;
}

void check_keys(const Json& object, const std::string& path) {
  int n_texts = 0;
  for (const auto& [key, value] : object.items()) {
    const bool text = key == "ids" || key == "prefix" || key == "pieces";
    check(text || key == "suffix", path, ": unknown key '", key, "'; ", kForms);
    n_texts += text;
  }
  check(n_texts <= 1, path, ": more than one of ids, prefix and pieces; ", kForms);
}

}  // namespace

PromptParts read_prompt_parts(const std::string& path) {
  const Json json = read_json_file(path);
  PromptParts parts;
  if (json.is_array()) {
    parts.pieces = {parse_ids(json, path)};
    return parts;
  }
  check(json.is_object(), path, ": ", kForms);
  check_keys(json, path);
  for (const char* key : {"ids", "prefix"}) {
    if (json.contains(key)) {
      parts.pieces = {parse_ids(json[key], path + ": " + key)};
    }
  }
  if (json.contains("pieces")) {
    parts.pieces = parse_pieces(json["pieces"], path + ": pieces");
  }
  if (json.contains("suffix")) {
    parts.suffix = parse_ids(json["suffix"], path + ": suffix");
  }
  return parts;
}

std::function<void()> add_text_or_ids_flags(CLI::App& app,
                                            std::string& text,
                                            std::string& ids_file) {
  auto* text_option =
      app.add_option("--text", text, "Text; the tokenizer's template tokens are added");
  auto* ids_option =
      app.add_option("--ids",
                     ids_file,
                     "JSON file: token ids, {\"prefix\", \"suffix\"} or {\"pieces\", \"suffix\"}")
          ->check(not_empty("--ids: the file's name is empty"));
  exclude_each_other({text_option, ids_option});
  return [&app, text_option, ids_option] {
    if (text_option->empty() && ids_option->empty()) {
      throw UsageError("ssa " + app.get_name() + " needs --text or --ids");
    }
  };
}

}  // namespace ssa
