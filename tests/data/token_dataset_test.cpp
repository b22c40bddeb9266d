#include "data/token_dataset.h"

#include <gtest/gtest.h>

#include <fstream>

#include "data/dataset_fixtures.h"

namespace ssa {
namespace {

namespace fs = std::filesystem;

void overwrite(const fs::path& file, size_t offset, uint64_t value, size_t n_bytes) {
  std::string bytes = read_file(file);
  bytes.replace(offset, n_bytes, reinterpret_cast<const char*>(&value), n_bytes);
  write_file(file, bytes);
}

class TokenDatasetTest : public ::testing::Test {
 protected:
  TestFolder folder_;
};

TEST_F(TokenDatasetTest, TextRoundTrip) {
  DatasetMeta meta = letters_meta();
  meta.eos_id = kEos;
  meta.sources = {"a.txt", "b.txt"};
  const TokenDataset dataset(write_documents(folder_ / "set", {"abc", "", "defgh"}, meta));
  ASSERT_EQ(dataset.size(), 3U);
  EXPECT_EQ(dataset.meta().n_tokens, 8U);
  EXPECT_EQ(dataset.meta().eos_id, kEos);
  EXPECT_EQ(dataset.meta().sources, meta.sources);
  EXPECT_EQ(dataset.n_tokens(1), 0U);
  EXPECT_EQ(dataset.tokens(0, 0, 3), ids_of("abc"));
  EXPECT_EQ(dataset.tokens(2, 1, 4), ids_of("efg"));
  EXPECT_EQ(folder_.count(), 1U) << "the temporary folder is left";
}

TEST_F(TokenDatasetTest, QaRoundTrip) {
  const TokenDataset dataset(
      write_qa(folder_ / "set",
               {letters_qa({"ab", "cde"}, "q", "a", {false, true}), letters_qa({"f"}, "rs", "tu")},
               "H"));
  ASSERT_EQ(dataset.size(), 2U);
  EXPECT_EQ(dataset.meta().header, ids_of("H"));
  const QaRow row = dataset.qa_row(0);
  EXPECT_EQ(row.documents, (std::vector{ids_of("ab"), ids_of("cde")}));
  EXPECT_EQ(row.gold, (std::vector{false, true}));
  EXPECT_EQ(dataset.qa_row(1).question, ids_of("rs"));
  EXPECT_EQ(dataset.qa_row(1).answer, ids_of("tu"));
  const QaLengths lengths = dataset.qa_lengths(0);
  EXPECT_EQ(lengths.documents, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(lengths.gold, (std::vector{false, true}));
  EXPECT_EQ(lengths.question, 1U);
  EXPECT_EQ(lengths.answer, 1U);
}

TEST_F(TokenDatasetTest, LargeVocabulariesTakeFourBytes) {
  DatasetMeta meta = letters_meta();
  meta.vocab_size = 65537;
  DatasetWriter writer(folder_ / "set", meta);
  writer.add_document(std::vector<int64_t>{65536, 0, 65535});
  writer.commit();
  const TokenDataset dataset(folder_ / "set");
  EXPECT_EQ(dataset.tokens(0, 0, 3), (std::vector<int64_t>{65536, 0, 65535}));
  EXPECT_EQ(fs::file_size(folder_ / "set/tokens.bin"), 12U);
}

TEST_F(TokenDatasetTest, DamageIsNamed) {
  struct Case {
    const char* name;
    std::function<void(const fs::path&)> damage;
    const char* error;
  };
  const Case cases[] = {
      {"short", [](auto& p) { fs::resize_file(p / "tokens.bin", 8); }, "tokens.bin has 8 bytes"},
      {"index", [](auto& p) { fs::resize_file(p / "fields.bin", 7); }, "fields.bin has 7 bytes"},
      {"gone", [](auto& p) { fs::remove(p / "gold.bin"); }, "gold.bin"},
      {"meta", [](auto& p) { fs::remove(p / "meta.json"); }, "is not a dataset"},
      {"syntax", [](auto& p) { write_file(p / "meta.json", "{"); }, "meta.json"},
      {"format", [](auto& p) { write_file(p / "meta.json", "{\"a\": 1}"); }, "'format' is missing"},
      {"falls", [](auto& p) { overwrite(p / "fields.bin", 8, 99, 8); }, "offset 2 is"},
      {"start", [](auto& p) { overwrite(p / "fields.bin", 0, 1, 8); }, "offsets go from 1"},
      {"entry", [](auto& p) { overwrite(p / "entries.bin", 8, 1, 8); }, "offset 1 is 1 behind 0"},
      {"token", [](auto& p) { overwrite(p / "tokens.bin", 2, 500, 2); }, "token 1 is 500"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const fs::path path = write_qa(
        folder_ / c.name, {letters_qa({"ab", "c"}, "q", "a"), letters_qa({"d"}, "q", "a")});
    c.damage(path);
    expect_error([&] { TokenDataset(path).qa_row(0); }, c.error);
  }
}

TEST_F(TokenDatasetTest, CountsThatNoFileCanHoldAreRefused) {
  const fs::path path = write_documents(folder_ / "set", {"abc"});
  std::string meta = read_file(path / "meta.json");
  for (const char* count : {"18446744073709551615", "9223372036854775806", "-1", "1.5", "\"3\""}) {
    std::string spoilt = meta;
    spoilt.replace(spoilt.find("\"n_fields\": 1") + 12, 1, count);
    write_file(path / "meta.json", spoilt);
    EXPECT_THROW(TokenDataset{path}, Error) << count;
  }
}

TEST_F(TokenDatasetTest, WriterRefuses) {
  const fs::path path = write_documents(folder_ / "set", {"abc"});
  expect_error([&] { DatasetWriter(path, letters_meta()); }, "not an empty folder");
  expect_error([&] { DatasetWriter(folder_ / "empty", letters_meta()).commit(); }, "no text");
  expect_error([&] { write_documents(folder_ / "ids", {"\x7f", "\xc3"}); }, "outside the vocab");
  EXPECT_EQ(folder_.count(), 1U) << "a folder of a failed writer is left";
}

}  // namespace
}  // namespace ssa
