#include "data/token_dataset.h"

#include <algorithm>
#include <cstring>

#include "base/checked_math.h"
#include "base/error.h"

namespace ssa {
namespace fs = std::filesystem;
namespace {

fs::path check_folder(const fs::path& folder) {
  check(is_present(folder), folder.string(), " does not exist");
  check(is_present(folder / "meta.json"),
        folder.string(),
        " is not a dataset: it holds no meta.json; make one with 'ssa data build'");
  return folder;
}

/// The file's content as numbers. Throws Error unless it holds exactly n of them.
template <class T>
std::span<const T> view_numbers(const MappedFile& file, uint64_t n) {
  const uint64_t expected = checked_mul(n, sizeof(T), "dataset");
  check(file.bytes().size() == expected,
        file.path().string(),
        " has ",
        file.bytes().size(),
        " bytes; meta.json says ",
        expected);
  return {reinterpret_cast<const T*>(file.bytes().data()), static_cast<size_t>(n)};
}

/// Offsets begin at 0, rise (`step` at least each time) and end at `end`.
void check_offsets(std::span<const uint64_t> offsets,
                   uint64_t end,
                   uint64_t step,
                   const MappedFile& file) {
  check(offsets.front() == 0 && offsets.back() == end,
        file.path().string(),
        ": offsets go from ",
        offsets.front(),
        " to ",
        offsets.back(),
        ", expected 0 to ",
        end);
  for (size_t i = 1; i < offsets.size(); ++i) {
    check(offsets[i] >= offsets[i - 1] && offsets[i] - offsets[i - 1] >= step,
          file.path().string(),
          ": offset ",
          i,
          " is ",
          offsets[i],
          " behind ",
          offsets[i - 1]);
  }
}

}  // namespace

TokenDataset::TokenDataset(const fs::path& folder)
    : folder_(check_folder(folder)),
      meta_(read_dataset_meta(folder_ / "meta.json")),
      tokens_file_(folder_ / "tokens.bin"),
      fields_file_(folder_ / "fields.bin") {
  if (meta_.token_bytes() == 2) {
    view_numbers<uint16_t>(tokens_file_, meta_.n_tokens);
  } else {
    view_numbers<uint32_t>(tokens_file_, meta_.n_tokens);
  }
  fields_ = view_numbers<uint64_t>(fields_file_, checked_add(meta_.n_fields, 1, "n_fields"));
  if (meta_.kind == DatasetKind::kQa) {
    map_qa_files();
  } else {
    check(meta_.n_fields == meta_.n_entries,
          folder_.string(),
          "/meta.json: ",
          meta_.n_fields,
          " fields in ",
          meta_.n_entries,
          " documents");
  }
  check_index();
}

void TokenDataset::map_qa_files() {
  entries_file_.emplace(folder_ / "entries.bin");
  gold_file_.emplace(folder_ / "gold.bin");
  entries_ = view_numbers<uint64_t>(*entries_file_, checked_add(meta_.n_entries, 1, "n_entries"));
  gold_ = view_numbers<uint8_t>(*gold_file_, meta_.n_fields);
}

void TokenDataset::check_index() const {
  check_offsets(fields_, meta_.n_tokens, 0, fields_file_);
  if (entries_file_) {
    check_offsets(entries_, meta_.n_fields, 2, *entries_file_);  // question and answer at least
  }
}

uint64_t TokenDataset::first_field(uint64_t entry) const {
  return entries_.empty() ? entry : entries_[entry];
}

uint64_t TokenDataset::first_token(uint64_t entry) const {
  return fields_[first_field(entry)];
}

uint64_t TokenDataset::n_tokens(uint64_t entry) const {
  return first_token(entry + 1) - first_token(entry);
}

std::vector<int64_t> TokenDataset::tokens(uint64_t entry, uint64_t begin, uint64_t end) const {
  return read(first_token(entry) + begin, first_token(entry) + end);
}

QaLengths TokenDataset::qa_lengths(uint64_t entry) const {
  const auto length = [&](uint64_t field) { return fields_[field + 1] - fields_[field]; };
  QaLengths lengths;
  uint64_t field = first_field(entry);
  const uint64_t question = first_field(entry + 1) - 2;
  for (; field < question; ++field) {
    lengths.documents.push_back(length(field));
    lengths.gold.push_back(gold_[field] != 0);
  }
  lengths.question = length(question);
  lengths.answer = length(question + 1);
  return lengths;
}

QaRow TokenDataset::qa_row(uint64_t entry) const {
  const auto field_ids = [&](uint64_t field) { return read(fields_[field], fields_[field + 1]); };
  QaRow row;
  uint64_t field = first_field(entry);
  const uint64_t question = first_field(entry + 1) - 2;
  for (; field < question; ++field) {
    row.documents.push_back(field_ids(field));
    row.gold.push_back(gold_[field] != 0);
  }
  row.question = field_ids(question);
  row.answer = field_ids(question + 1);
  return row;
}

std::vector<int64_t> TokenDataset::read(uint64_t begin, uint64_t end) const {
  std::vector<int64_t> ids(static_cast<size_t>(end - begin));
  const std::byte* data = tokens_file_.bytes().data();
  if (meta_.token_bytes() == 2) {
    const auto* tokens = reinterpret_cast<const uint16_t*>(data);
    std::copy(tokens + begin, tokens + end, ids.begin());
  } else {
    const auto* tokens = reinterpret_cast<const uint32_t*>(data);
    std::copy(tokens + begin, tokens + end, ids.begin());
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    check(ids[i] < meta_.vocab_size,
          tokens_file_.path().string(),
          ": token ",
          begin + i,
          " is ",
          ids[i],
          ", and the vocabulary has ",
          meta_.vocab_size);
  }
  return ids;
}

}  // namespace ssa
