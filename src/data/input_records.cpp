#include "data/input_records.h"

#include <algorithm>

#include "base/error.h"

namespace ssa {
namespace {

std::string_view file_text(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

}  // namespace

InputRecords::InputRecords(const std::vector<std::filesystem::path>& files,
                           const std::optional<std::string>& separator)
    : separator_(separator.value_or(std::string(1, '\0'))) {
  check(!files.empty(), "no input files");
  check(!separator_.empty(), "the separator of documents is empty");
  for (const std::filesystem::path& path : files) {
    check(path.extension() != ".json",
          path.string(),
          ": expected text, or .jsonl with an object a line; not .json");
    files_.emplace_back(path);
    total_bytes_ += files_.back().bytes().size();
  }
}

std::optional<InputRecord> InputRecords::next() {
  while (file_ < files_.size()) {
    const MappedFile& file = files_[file_];
    const bool is_json = file.path().extension() == ".jsonl";
    const bool is_whole = offset_ == 0;
    if (offset_ >= file.bytes().size()) {
      n_behind_ += file.bytes().size();
      ++file_;
      offset_ = number_ = 0;
      continue;
    }
    const std::string_view text = take_record(is_json ? "\n" : separator_);
    if (is_json && is_blank(text)) {
      continue;
    }
    const bool is_alone = is_whole && text.size() == file.bytes().size();
    std::string where = file.path().string();
    if (is_json || !is_alone) {
      where += concat(is_json ? " line " : " document ", number_);
    }
    return InputRecord{text, is_json, std::move(where), n_behind_ + offset_};
  }
  return std::nullopt;
}

std::string_view InputRecords::take_record(std::string_view separator) {
  const std::string_view text = file_text(files_[file_]);
  const size_t end = std::min(text.find(separator, offset_), text.size());
  const std::string_view record = text.substr(offset_, end - offset_);
  offset_ = std::min(end + separator.size(), text.size());
  ++number_;
  return record;
}

}  // namespace ssa
