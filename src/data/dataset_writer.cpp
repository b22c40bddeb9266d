#include "data/dataset_writer.h"

#include "base/error.h"

namespace ssa {
namespace {

template <class T>
void write_number(AtomicFile& file, T value) {
  file.write(std::as_bytes(std::span(&value, 1)));
}

template <class T>
void write_ids(AtomicFile& file, std::span<const int64_t> ids) {
  const std::vector<T> narrow(ids.begin(), ids.end());
  file.write(std::as_bytes(std::span(narrow)));
}

}  // namespace

DatasetWriter::DatasetWriter(const std::filesystem::path& target, DatasetMeta meta)
    : meta_(std::move(meta)),
      folder_(target),
      tokens_(folder_.path() / "tokens.bin"),
      fields_(folder_.path() / "fields.bin") {
  meta_.n_entries = meta_.n_fields = meta_.n_tokens = 0;
  write_number<uint64_t>(fields_, 0);
  if (meta_.kind == DatasetKind::kQa) {
    entries_.emplace(folder_.path() / "entries.bin");
    gold_.emplace(folder_.path() / "gold.bin");
    write_number<uint64_t>(*entries_, 0);
  }
}

void DatasetWriter::add_document(std::span<const int64_t> ids) {
  add_field(ids, false);
  end_entry();
}

void DatasetWriter::add_qa_row(const QaRow& row) {
  for (size_t i = 0; i < row.documents.size(); ++i) {
    add_field(row.documents[i], row.gold[i]);
  }
  add_field(row.question, false);
  add_field(row.answer, false);
  end_entry();
}

void DatasetWriter::add_field(std::span<const int64_t> ids, bool gold) {
  for (const int64_t id : ids) {
    check(id >= 0 && id < meta_.vocab_size,
          "token id ",
          id,
          " is outside the vocabulary of ",
          meta_.vocab_size);
  }
  if (meta_.token_bytes() == 2) {
    write_ids<uint16_t>(tokens_, ids);
  } else {
    write_ids<uint32_t>(tokens_, ids);
  }
  meta_.n_tokens += ids.size();
  ++meta_.n_fields;
  write_number<uint64_t>(fields_, meta_.n_tokens);
  if (gold_) {
    write_number<uint8_t>(*gold_, gold ? 1 : 0);
  }
}

void DatasetWriter::end_entry() {
  ++meta_.n_entries;
  if (entries_) {
    write_number<uint64_t>(*entries_, meta_.n_fields);
  }
}

void DatasetWriter::commit() {
  check(meta_.n_tokens > 0, "the input holds no text");
  tokens_.commit();
  fields_.commit();
  if (entries_) {
    entries_->commit();
    gold_->commit();
  }
  write_file(folder_.path() / "meta.json", dump_json(to_json(meta_), 2) + "\n");
  folder_.commit();
}

}  // namespace ssa
