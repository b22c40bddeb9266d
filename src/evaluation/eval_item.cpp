#include "evaluation/eval_item.h"

#include <array>
#include <set>

#include "base/error.h"
#include "base/text.h"
#include "data/input_records.h"

namespace ssa {
namespace {

constexpr std::array<std::pair<const char*, EvalTask>, 4> kTasks = {{{"ppl", EvalTask::kPpl},
                                                                     {"niah", EvalTask::kNiah},
                                                                     {"kv", EvalTask::kKv},
                                                                     {"qa", EvalTask::kQa}}};

std::string text_of(const Json& value, const char* field, const std::string& where) {
  check(value.is_string() && !value.get_ref<const std::string&>().empty(),
        where,
        ": field '",
        field,
        "': expected text that is not empty, got ",
        dump_json(value).substr(0, 40));
  return value.get<std::string>();
}

std::string text_field(const Json& line, const char* field, const std::string& where) {
  const Json* value = find_key(line, field);
  check(value != nullptr, where, ": field '", field, "' is missing");
  return text_of(*value, field, where);
}

/// The list of field `many`, or the one text of field `one`.
std::vector<std::string> texts_of(const Json& line,
                                  const char* many,
                                  const char* one,
                                  const std::string& where) {
  const Json* list = find_key(line, many);
  if (list == nullptr && find_key(line, one) != nullptr) {
    return {text_field(line, one, where)};
  }
  check(list != nullptr, where, ": field '", many, "' (or '", one, "') is missing");
  check(list->is_array() && !list->empty(),
        where,
        ": field '",
        many,
        "' is not a list of at least one text");
  std::vector<std::string> texts;
  for (const Json& entry : *list) {
    texts.push_back(text_of(entry, many, where));
  }
  return texts;
}

/// Byte offset of a character.
int64_t byte_offset(const std::string& text, int64_t character) {
  size_t i = 0;
  for (int64_t n = 0; n < character && i < text.size(); ++n) {
    next_code_point(text, i);
  }
  return static_cast<int64_t>(i);
}

EvidenceSpan parse_span(const Json& entry,
                        const std::vector<std::string>& documents,
                        const std::string& where) {
  const auto wrong = [&] {
    fail(where,
         ": field 'gold' or 'evidence': expected the number of one of the ",
         documents.size(),
         " documents, counted from 0, or [document, first, behind] in characters; got ",
         dump_json(entry).substr(0, 40));
  };
  const auto number = [&](const Json& value) {
    if (!value.is_number_integer() || value.get<int64_t>() < 0) {
      wrong();
    }
    return value.get<int64_t>();
  };
  const bool whole = !entry.is_array();
  if (!whole && entry.size() != 3) {
    wrong();
  }
  EvidenceSpan span;
  span.document = number(whole ? entry : entry[0]);
  if (span.document >= static_cast<int64_t>(documents.size())) {
    wrong();
  }
  if (!whole) {
    const std::string& text = documents[static_cast<size_t>(span.document)];
    span.bytes = {byte_offset(text, number(entry[1])), byte_offset(text, number(entry[2]))};
    if (span.bytes.begin >= span.bytes.end) {
      wrong();
    }
  }
  return span;
}

void parse_ppl(EvalItem& item, const Json& line) {
  if (find_key(line, "text") != nullptr) {
    item.text = text_field(line, "text", item.where);
    return;
  }
  check(find_key(line, "prefix") != nullptr || find_key(line, "suffix") != nullptr,
        item.where,
        ": field 'text', or 'prefix' and 'suffix', is missing");
  item.prefix = text_field(line, "prefix", item.where);
  item.suffix = text_field(line, "suffix", item.where);
}

void parse_question(EvalItem& item, const Json& line) {
  item.documents = texts_of(line, "documents", "context", item.where);
  item.question = text_field(line, "question", item.where);
  item.answers = texts_of(line, "answers", "answer", item.where);
  const Json* gold = find_key(line, "evidence");
  gold = gold != nullptr ? gold : find_key(line, "gold");
  if (gold != nullptr) {
    check(gold->is_array(), item.where, ": field 'gold' or 'evidence' is not a list");
    for (const Json& entry : *gold) {
      item.gold.push_back(parse_span(entry, item.documents, item.where));
    }
  }
}

}  // namespace

const char* eval_task_name(EvalTask task) {
  for (const auto& [name, known] : kTasks) {
    if (task == known) {
      return name;
    }
  }
  return "?";
}

EvalTask parse_eval_task(const std::string& name) {
  for (const auto& [known, task] : kTasks) {
    if (name == known) {
      return task;
    }
  }
  throw UsageError("task " + name + " is not one of ppl, niah, kv, qa");
}

EvalItem parse_eval_item(EvalTask task, const Json& line, const std::string& where) {
  check(line.is_object(), where, ": expected a JSON object");
  EvalItem item;
  item.where = where;
  if (const Json* id = find_key(line, "id")) {
    check(id->is_string() || id->is_number_integer(), where, ": field 'id' is no text or number");
    item.id = id->is_string() ? id->get<std::string>() : id->dump();
  }
  if (task == EvalTask::kPpl) {
    parse_ppl(item, line);
  } else {
    parse_question(item, line);
  }
  return item;
}

std::vector<EvalItem> read_eval_items(EvalTask task, const std::filesystem::path& path) {
  check(path.extension() == ".jsonl",
        path.string(),
        ": items are read from .jsonl files, an object a line");
  InputRecords records({path}, std::nullopt);
  std::vector<EvalItem> items;
  std::set<std::string> ids;
  while (const auto record = records.next()) {
    check(is_valid_utf8(record->text), record->where, ": the text is not UTF-8");
    EvalItem item = parse_eval_item(task, parse_json(record->text, record->where), record->where);
    if (item.id.empty()) {
      item.id = std::to_string(items.size() + 1);
    }
    check(ids.insert(item.id).second, record->where, ": id '", item.id, "' occurs twice");
    items.push_back(std::move(item));
  }
  check(!items.empty(), path.string(), " holds no items");
  return items;
}

}  // namespace ssa
