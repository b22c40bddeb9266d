#include "tokenizer/post_processor.h"

#include <limits>
#include <string>

#include "base/error.h"

namespace ssa {
namespace {

const Json& required(const Json& json, const char* key) {
  const Json* value = find_key(json, key);
  check(value != nullptr, "TemplateProcessing: key '", key, "' is missing");
  return *value;
}

std::vector<int64_t> read_ids(const Json& special_tokens, const std::string& name) {
  const Json* token = find_key(special_tokens, name.c_str());
  check(token != nullptr, "'", name, "' is not in special_tokens");
  const Json& list = required(*token, "ids");
  check(list.is_array(), "'", name, "': ids: expected a list");
  std::vector<int64_t> ids;
  for (const Json& id : list) {
    check(id.is_number_integer() && id >= 0 && id <= std::numeric_limits<int32_t>::max(),
          "'",
          name,
          "': ",
          dump_json(id),
          " is not a token id");
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

}  // namespace

PostProcessor::PostProcessor(const Json* json) {
  if (json != nullptr) {
    read(*json);
  }
}

void PostProcessor::read(const Json& json) {
  const std::string type = get_or<std::string>(json, "type", "");
  if (type == "Sequence") {
    const Json* parts = find_key(json, "processors");
    check(parts != nullptr && parts->is_array(), "Sequence has no processors");
    for (const Json& part : *parts) {
      read(part);
    }
  } else if (type == "TemplateProcessing") {
    check(template_.empty(), "more than one TemplateProcessing is not supported");
    read_template(json);
  } else {
    check(type == "ByteLevel",
          "type '",
          type,
          "' is not supported (known: Sequence, TemplateProcessing, ByteLevel)");
  }
}

void PostProcessor::read_template(const Json& json) {
  const Json& single = required(json, "single");
  check(single.is_array(), "TemplateProcessing: single: expected a list");
  for (const Json& piece : single) {
    if (const Json* text = find_key(piece, "Sequence")) {
      check(get_or<std::string>(*text, "id", "") == "A",
            "TemplateProcessing: single: the only text is A");
      template_.push_back({true, {}});
    } else if (const Json* token = find_key(piece, "SpecialToken")) {
      const std::string name = get_or<std::string>(*token, "id", "");
      template_.push_back({false, read_ids(required(json, "special_tokens"), name)});
    } else {
      fail("TemplateProcessing: single: ",
           dump_json(piece).substr(0, 80),
           " is neither Sequence nor SpecialToken");
    }
  }
}

std::vector<int64_t> PostProcessor::apply(std::vector<int64_t> ids, bool add_special) const {
  if (template_.empty()) {
    return ids;
  }
  std::vector<int64_t> out;
  out.reserve(ids.size() + template_.size());
  for (const Piece& piece : template_) {
    if (piece.is_text) {
      out.insert(out.end(), ids.begin(), ids.end());
    } else if (add_special) {
      out.insert(out.end(), piece.special.begin(), piece.special.end());
    }
  }
  return out;
}

}  // namespace ssa
