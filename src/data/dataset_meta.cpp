#include "data/dataset_meta.h"

#include <limits>

#include "base/error.h"

namespace ssa {
namespace {

constexpr const char* kFormat = "ssa token dataset";
constexpr int64_t kVersion = 1;

/// Reads keys that must be there, and says where they are missing.
class KeyReader {
 public:
  KeyReader(const Json& object, std::string file) : object_(object), file_(std::move(file)) {}

  const Json& at(const char* key) const {
    const Json* value = find_key(object_, key);
    check(value != nullptr, file_, ": key '", key, "' is missing");
    return *value;
  }
  std::string text(const char* key) const {
    check(at(key).is_string(), file_, ": key '", key, "' is not a string");
    return at(key).get<std::string>();
  }
  int64_t number(const Json& value, const char* key, int64_t end) const {
    const bool valid = value.is_number_unsigned() && value.get<uint64_t>() < uint64_t(end);
    check(valid,
          file_,
          ": key '",
          key,
          "' holds ",
          dump_json(value).substr(0, 40),
          ", expected a number from 0 to ",
          end - 1);
    return value.get<int64_t>();
  }
  int64_t number(const char* key, int64_t end = std::numeric_limits<int64_t>::max()) const {
    return number(at(key), key, end);
  }
  uint64_t count(const char* key) const { return static_cast<uint64_t>(number(key)); }
  const Json& list(const char* key) const {
    check(at(key).is_array(), file_, ": key '", key, "' is not a list");
    return at(key);
  }

 private:
  const Json& object_;
  std::string file_;
};

void check_format(const KeyReader& keys, const std::string& file) {
  check(keys.text("format") == kFormat,
        file,
        ": format '",
        keys.text("format"),
        "' is not '",
        kFormat,
        "'");
  check(keys.number("version") == kVersion,
        file,
        ": version ",
        keys.number("version"),
        " of the format; this program reads version ",
        kVersion);
}

}  // namespace

const char* dataset_kind_name(DatasetKind kind) {
  return kind == DatasetKind::kQa ? "qa" : "text";
}

DatasetKind parse_dataset_kind(const std::string& name) {
  check(name == "text" || name == "qa", "dataset kind '", name, "' is not one of text, qa");
  return name == "qa" ? DatasetKind::kQa : DatasetKind::kText;
}

Json to_json(const DatasetMeta& meta) {
  Json json = {{"format", kFormat},
               {"version", kVersion},
               {"kind", dataset_kind_name(meta.kind)},
               {"tokenizer", meta.tokenizer},
               {"vocab_size", meta.vocab_size},
               {"n_entries", meta.n_entries},
               {"n_fields", meta.n_fields},
               {"n_tokens", meta.n_tokens},
               {"eos_id", nullptr},
               {"header", meta.header},
               {"sources", meta.sources}};
  if (meta.eos_id) {
    json["eos_id"] = *meta.eos_id;
  }
  return json;
}

DatasetMeta read_dataset_meta(const std::filesystem::path& file) {
  const Json json = read_json_file(file);
  const KeyReader keys(json, file.string());
  check_format(keys, file.string());
  DatasetMeta meta;
  meta.kind = parse_dataset_kind(keys.text("kind"));
  meta.tokenizer = keys.text("tokenizer");
  meta.vocab_size = keys.number("vocab_size", int64_t{1} << 32);
  meta.n_entries = keys.count("n_entries");
  meta.n_fields = keys.count("n_fields");
  meta.n_tokens = keys.count("n_tokens");
  if (const Json* eos = find_key(json, "eos_id")) {
    meta.eos_id = keys.number(*eos, "eos_id", meta.vocab_size);
  }
  for (const Json& id : keys.list("header")) {
    meta.header.push_back(keys.number(id, "header", meta.vocab_size));
  }
  for (const Json& source : keys.list("sources")) {
    check(source.is_string(), file.string(), ": key 'sources' is not a list of names");
    meta.sources.push_back(source.get<std::string>());
  }
  return meta;
}

}  // namespace ssa
