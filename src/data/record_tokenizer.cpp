#include "data/record_tokenizer.h"

#include "base/error.h"
#include "base/text.h"

namespace ssa {
namespace {

bool has_text(const std::string& text) {
  return text.find_first_not_of(" \t\r\n") != std::string::npos;
}

const Json& require_field(const Json& row, const std::string& field, const std::string& where) {
  check(row.is_object(), where, ": expected a JSON object");
  const Json* value = find_key(row, field.c_str());
  check(value != nullptr, where, ": field '", field, "' is missing");
  return *value;
}

const std::string& as_text(const Json& value, const std::string& field, const std::string& where) {
  check(value.is_string(),
        where,
        ": field '",
        field,
        "' is not a string but ",
        dump_json(value).substr(0, 40));
  return value.get_ref<const std::string&>();
}

const std::string& require_text(const Json& row,
                                const std::string& field,
                                const std::string& where) {
  const std::string& text = as_text(require_field(row, field, where), field, where);
  check(has_text(text), where, ": field '", field, "' is empty");
  return text;
}

/// "documents", or "context" as the only one.
std::vector<std::string> read_documents(const Json& row, const std::string& where) {
  if (find_key(row, "documents") == nullptr && find_key(row, "context") != nullptr) {
    return {require_text(row, "context", where)};
  }
  const Json& list = require_field(row, "documents", where);
  check(list.is_array() && !list.empty(),
        where,
        ": field 'documents' is not a list of at least one text");
  std::vector<std::string> documents;
  for (const Json& document : list) {
    documents.push_back(as_text(document, "documents", where));
    check(has_text(documents.back()), where, ": a text in field 'documents' is empty");
  }
  return documents;
}

std::vector<bool> read_gold(const Json& row, size_t n_documents, const std::string& where) {
  std::vector<bool> gold(n_documents);
  const Json* list = find_key(row, "gold");
  if (list == nullptr) {
    return gold;
  }
  check(list->is_array(), where, ": field 'gold' is not a list of numbers");
  for (const Json& index : *list) {
    check(index.is_number_unsigned() && index.get<uint64_t>() < n_documents,
          where,
          ": field 'gold' holds ",
          dump_json(index).substr(0, 40),
          ", and there are ",
          n_documents,
          " documents, counted from 0");
    gold[index.get<size_t>()] = true;
  }
  return gold;
}

}  // namespace

RecordTokenizer::RecordTokenizer(const Tokenizer& tokenizer, const BuildOptions& options)
    : tokenizer_(&tokenizer),
      options_(&options),
      document_(parse_text_frame(options.format.document)),
      question_(parse_text_frame(options.format.question)),
      answer_(parse_text_frame(options.format.answer)) {}

std::vector<int64_t> RecordTokenizer::header() const {
  return tokenizer_->encode(options_->format.header, EncodeOptions{.add_special = false});
}

TokenizedRecord RecordTokenizer::tokenize(const InputRecord& record) const {
  TokenizedRecord result;
  if (!record.is_json) {
    check(options_->kind == DatasetKind::kText,
          record.where,
          ": question-answer rows are read from .jsonl files");
    result.was_mended = !is_valid_utf8(record.text);
    result.document = encode_document(replace_invalid_utf8(record.text));
    return result;
  }
  check(is_valid_utf8(record.text), record.where, ": the text is not UTF-8");
  const Json row = parse_json(record.text, record.where);
  if (options_->kind == DatasetKind::kQa) {
    result.qa = tokenize_qa(row, record.where);
  } else {
    const Json& text = require_field(row, options_->field, record.where);
    result.document = encode_document(as_text(text, options_->field, record.where));
  }
  return result;
}

std::vector<int64_t> RecordTokenizer::encode_document(const std::string& text) const {
  if (!has_text(text)) {
    return {};
  }
  std::vector<int64_t> ids =
      tokenizer_->encode(text, EncodeOptions{.add_special = false, .parse_special = false});
  if (options_->eos_id) {
    ids.push_back(*options_->eos_id);
  }
  return ids;
}

QaRow RecordTokenizer::tokenize_qa(const Json& row, const std::string& where) const {
  QaRow result;
  for (const std::string& document : read_documents(row, where)) {
    result.documents.push_back(encode_framed(*tokenizer_, document_, document));
  }
  result.gold = read_gold(row, result.documents.size(), where);
  result.question = encode_framed(*tokenizer_, question_, require_text(row, "question", where));
  result.answer = encode_framed(*tokenizer_, answer_, require_text(row, "answer", where));
  if (options_->eos_id) {
    result.answer.push_back(*options_->eos_id);
  }
  return result;
}

}  // namespace ssa
