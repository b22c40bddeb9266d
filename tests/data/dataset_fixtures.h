// Small datasets on disk. Tokens are letters, as in gist/spelled_layout.h.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "data/dataset_writer.h"
#include "data/training_data.h"
#include "gist/spelled_layout.h"
#include "support/expect_error.h"
#include "tokenizer/tokenizer.h"

namespace ssa {

/// A folder for one test, gone with it.
class TestFolder {
 public:
  TestFolder() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::temp_directory_path() /
            ("ssa_data_" + std::to_string(getpid()) + "_" + test->name());
    std::filesystem::remove_all(path_);
    std::filesystem::create_directory(path_);
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  std::filesystem::path write(const std::string& name, std::string_view text) const {
    write_file(path_ / name, text);
    return path_ / name;
  }
  /// Files and folders in it.
  size_t count() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

 private:
  std::filesystem::path path_;
};

inline constexpr int64_t kEos = '$';

inline DatasetMeta letters_meta(DatasetKind kind = DatasetKind::kText) {
  DatasetMeta meta;
  meta.kind = kind;
  meta.tokenizer = "letters";
  meta.vocab_size = 128;
  return meta;
}

inline std::filesystem::path write_documents(const std::filesystem::path& path,
                                             const std::vector<std::string>& documents,
                                             const DatasetMeta& meta = letters_meta()) {
  DatasetWriter writer(path, meta);
  for (const std::string& document : documents) {
    writer.add_document(ids_of(document));
  }
  writer.commit();
  return path;
}

inline QaRow letters_qa(const std::vector<std::string>& documents,
                        const std::string& question,
                        const std::string& answer,
                        std::vector<bool> gold = {}) {
  QaRow row;
  for (const std::string& document : documents) {
    row.documents.push_back(ids_of(document));
  }
  gold.resize(documents.size());
  row.gold = gold;
  row.question = ids_of(question);
  row.answer = ids_of(answer);
  return row;
}

inline std::filesystem::path write_qa(const std::filesystem::path& path,
                                      const std::vector<QaRow>& rows,
                                      const std::string& header = "") {
  DatasetMeta meta = letters_meta(DatasetKind::kQa);
  meta.header = ids_of(header);
  DatasetWriter writer(path, meta);
  for (const QaRow& row : rows) {
    writer.add_qa_row(row);
  }
  writer.commit();
  return path;
}

inline DataVocabulary letters_vocabulary() {
  return {"letters", {'.', ':', '*'}, spelled_boundaries(), kSpelledBos, kEos};
}

/// Rows of 16 letters in chunks of 2, suffixes of 3, no EOS.
inline DataOptions letters_options(const std::filesystem::path& dataset) {
  DataOptions options;
  options.sources = {{dataset}};
  options.seq_len = 16;
  options.add_eos = false;
  options.chunks = {{{2}}};
  options.word_aware = false;
  options.sink = 0;
  options.suffix_min = options.suffix_max = 3;
  return options;
}

/// A row's sequences, spelled.
inline std::vector<std::string> spell_row(const TrainingRow& row) {
  std::vector<std::string> texts;
  for (const TrainingSequence& sequence : row.sequences) {
    texts.push_back(spell(sequence.layout));
  }
  return texts;
}

/// Targets of a sequence, '_' for none.
inline std::string spell_targets(const TrainingSequence& sequence) {
  std::string text;
  for (const int64_t target : sequence.targets) {
    text += target == kNoTarget ? '_' : static_cast<char>(target);
  }
  return text;
}

inline Tokenizer golden_tokenizer() {
  return Tokenizer::from_file(std::filesystem::path(SSA_GOLDEN_DIR) / "tokenizer/smollm2.json");
}

}  // namespace ssa
